"""Rows that training is measured on: published ones where they are beside the checkout, else drawn.

Drawn ones come from a fixed seed; speed does not hang on what they say, losses do.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]

SHARED = Path(__file__).parents[2] / "shared" / "data"
"""Where published rows are, if they are there."""

WORDS = ("water", "light", "stone", "river", "seven", "green", "quick", "north")
"""What drawn texts consist of; behind a blank, each is one token of most models."""

_LONGEST_PAIR = 2000
"""Most letters of a prompt with an answer, so that no peer cuts a pair elsewhere than another."""


def answered(count: int) -> list[Row]:
    """Return `count` chat rows of a prompt and a completion, in the form that TRL reads."""
    published = _published("alpaca_en_demo.json")
    if published is None:
        asked = [(_drawn(at, 20), _drawn(at, 120)) for at in range(count)]
    else:
        asked = [
            (f"{row['instruction']}\n\n{row['input']}".strip(), row["output"])
            for row in published
            if row["output"]
        ]
    return [
        {"prompt": [_said("user", question)], "completion": [_said("assistant", answer)]}
        for question, answer in _first(asked, count)
    ]


def pairs(count: int) -> list[Row]:
    """Return `count` rows of a prompt, a preferred and another answer, in the form of TRL."""
    published = _published("dpo_en_demo.json")
    if published is None:
        return [
            {
                "prompt": [_said("user", _drawn(at, 40))],
                "chosen": [_said("assistant", _drawn(at, 120))],
                "rejected": [_said("assistant", _drawn(-at - 1, 80))],
            }
            for at in range(count)
        ]
    roles = {"system": "system", "human": "user", "gpt": "assistant"}
    found = [
        {
            "prompt": [_said(roles[turn["from"]], turn["value"]) for turn in row["conversations"]],
            "chosen": [_said("assistant", row["chosen"]["value"])],
            "rejected": [_said("assistant", row["rejected"]["value"])],
        }
        for row in published
    ]
    return _first([row for row in found if len(json.dumps(row)) < _LONGEST_PAIR], count)


def texts(count: int) -> list[Row]:
    """Return `count` plain texts."""
    published = _published("c4_demo.jsonl")
    if published is None:
        return [{"text": _drawn(at, 100 + 97 * at % 900)} for at in range(count)]
    return _first(published, count)


def questions(count: int) -> list[Row]:
    """Return `count` rows of a question and the text that answers it: those of the chat rows."""
    return [
        {"query": row["prompt"][0]["content"], "answer": row["completion"][0]["content"]}
        for row in answered(count)
    ]


def generated(count: int) -> Iterator[Row]:
    """Yield `count` chat rows, no two alike, in the form that training reads."""
    for at in range(count):
        asked, answer = f"Row {at}: {_drawn(at, 20)}", _drawn(-at - 1, 40)
        yield {"messages": [_said("user", asked), _said("assistant", answer)]}


def of_length(count: int, tokens: int) -> list[Row]:
    """Return `count` texts of so many tokens each, the one that ends a text included."""
    return [{"text": " " + _drawn(at, tokens - 1)} for at in range(count)]


def _published(name: str) -> list[Row] | None:
    path = SHARED / name
    if not path.is_file():
        return None
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in content.splitlines()]
    rows: list[Row] = json.loads(content)
    return rows


def _first(rows: list[Any], count: int) -> list[Any]:
    if len(rows) < count:
        raise SystemExit(f"There are {len(rows)} rows, and not the {count} that are asked for.")
    return rows[:count]


def _drawn(seed: int, words: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
