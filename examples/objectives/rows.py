"""Rows for each objective: short ones of published files, and drawn thoughts about sums."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]

FILES = ("alpaca_en_demo.json", "c4_demo.jsonl", "embedding_nq_demo.jsonl")
"""The published files that are read."""

_SEED = 7
"""All that is drawn hangs on it."""


class Published:
    """The published files of a folder, short rows first where there are more than are asked for."""

    def __init__(self, folder: Path) -> None:
        """Read from `folder`, which has all of `FILES`."""
        self._folder = folder

    def answers(self, count: int) -> list[Row]:
        """Return `count` instructions with their answers."""
        rows = [row for row in self._read("alpaca_en_demo.json") if row["output"]]
        return _shortest(rows, count, keys=("instruction", "input", "output"))

    def texts(self, count: int) -> list[Row]:
        """Return `count` texts of the web."""
        return _shortest(self._read("c4_demo.jsonl"), count, keys=("text",))

    def pairs(self, count: int) -> list[Row]:
        """Return `count` instructions with their own answer, which is preferred, and a stranger's.

        Published pairs are several times as long, and would take as much longer.
        """
        rows = self.answers(count)
        return [
            {
                "instruction": row["instruction"],
                "input": row["input"],
                "chosen": row["output"],
                "rejected": stranger["output"],
            }
            for row, stranger in zip(rows, rows[1:] + rows[:1], strict=True)
        ]

    def questions(self) -> list[Row]:
        """Return all questions, each with a passage that answers it and many that do not."""
        return self._read("embedding_nq_demo.jsonl")

    def ranked_answers(self, count: int, *, others: int) -> list[Row]:
        """Return `count` instructions, each with its answer and those of `others` instructions."""
        chance = random.Random(_SEED)
        rows = [row for row in self.answers(3 * count) if not row["input"]][:count]
        outputs = sorted({row["output"] for row in rows})
        return [
            {
                "query": row["instruction"],
                "pos": [row["output"]],
                "neg": chance.sample([out for out in outputs if out != row["output"]], others),
            }
            for row in rows
        ]

    def _read(self, name: str) -> list[Row]:
        content = (self._folder / name).read_text(encoding="utf-8")
        if name.endswith(".jsonl"):
            return [json.loads(line) for line in content.splitlines()]
        rows: list[Row] = json.loads(content)
        return rows


def thoughts(count: int) -> list[Row]:
    """Return `count` sums of two numbers, each with a thought that carries and its answer."""
    chance = random.Random(_SEED)
    numbers = range(11, 99)
    asked = chance.sample([(left, right) for left in numbers for right in numbers], count)
    return [_sum(left, right) for left, right in asked]


def _sum(left: int, right: int) -> Row:
    ones, tens = left % 10 + right % 10, left // 10 + right // 10
    return {
        "Question": f"What is {left} + {right}?",
        "Complex_CoT": f"Ones: {left % 10} + {right % 10} = {ones}. "
        f"Tens: {left // 10} + {right // 10} = {tens}. {tens}0 + {ones} = {left + right}.",
        "Response": f"{left + right}",
    }


def _shortest(rows: Sequence[Row], count: int, *, keys: tuple[str, ...]) -> list[Row]:
    """Return `count` of the rows, no two alike under `keys`, with the fewest letters there."""
    distinct = {json.dumps([row[key] for key in keys]): row for row in rows}
    return [distinct[text] for text in sorted(distinct, key=len)[:count]]
