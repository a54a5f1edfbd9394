"""A row as a model sees it, on a terminal and in a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click
import pytest

from models.tiny import byte_tokenizer
from tunesmith.cli.row import row_lines
from tunesmith.domain.models import CatalogueEntry, FolderSource
from unit.api.conftest import BASE, World
from unit.cli.conftest import Ask

FOUND = {
    "line": 3,
    "element": 0,
    "set_aside": None,
    "texts": [
        {
            "side": "chosen",
            "split": "held_out",
            "cut": True,
            "tokens_learnt": 2,
            "tokens": [
                {"id": 1, "text": "Say", "learnt": False},
                {"id": 2, "text": " it", "learnt": True},
                {"id": 3, "text": ".", "learnt": True},
            ],
        }
    ],
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    byte_tokenizer().save_pretrained(tmp_path)
    world = World()
    tiny = CatalogueEntry(name=BASE, source=FolderSource(path=tmp_path))
    world.services = replace(world.services, catalogue={BASE: tiny})
    return world


def test_what_is_learnt_stands_in_brackets_and_is_green() -> None:
    shown = row_lines(FOUND)

    assert click.unstyle(shown).splitlines() == [
        "Line 3",
        "",
        "chosen, 3 tokens, 2 learnt, held out, cut at its end:",
        "Say⟦ it.⟧",
    ]
    assert click.style("⟦ it.⟧", fg="green") in shown


def test_a_row_that_is_set_aside_says_why() -> None:
    aside = {"rule": "empty_answer", "reason": "Line 3: the answer is empty."}

    shown = row_lines({"line": 3, "element": 7, "set_aside": aside, "texts": []})

    assert shown.splitlines() == [
        "Line 3, element 7",
        "set aside: empty_answer: Line 3: the answer is empty.",
    ]


def ranked(*sides: str) -> dict[str, object]:
    token = {"id": 1, "text": "x", "learnt": False}
    fields = {"split": None, "cut": False, "tokens_learnt": 0, "tokens": [token]}
    return {
        "line": 1,
        "element": 0,
        "set_aside": None,
        "texts": [{"side": side, **fields} for side in sides],
    }


@pytest.mark.parametrize(
    ("sides", "method", "learnt"),
    [
        (["query", "positive", "negative"], "embedding", "vector"),
        (["positive", "negative"], "rerank", "score"),
    ],
)
def test_of_a_query_with_passages_it_is_told_what_is_learnt_in_place_of_tokens(
    sides: list[str], method: str, learnt: str
) -> None:
    head, *texts = row_lines(ranked(*sides)).split("\n\n")

    assert head.splitlines()[1].startswith(f"{method}: what is learnt is the {learnt}")
    assert texts == [f"{side}, 1 tokens:\nx" for side in sides]


def test_a_row_of_a_file_is_seen_as_a_job_would_with_the_same_settings(
    ask: Ask, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        '{"query": "a", "pos": ["b"], "neg": ["c"]}\n'
        '{"Question": "1+1?", "Complex_CoT": "Hm.", "Response": "2"}\n'
    )
    file_id = ask("files", "upload", str(rows)).stdout.strip()

    def row(line: int, *options: str) -> str:
        return ask("files", "row", file_id, str(line), "--model", BASE, *options).stdout

    assert "positive, 2 tokens:\nab" in row(1, "--method", "rerank")
    assert "query, 4 tokens:\nQ: a" in row(1, "--query-instruction", "Q: ")
    assert "positive, 4 tokens:\nP: b" in row(1, "--passage-instruction", "P: ")
    assert "cut at its end" in row(1, "--query-max-len", "8", "--query-instruction", "Look for ")
    assert "⟦[t]\nHm.\n[/t]\n\n2<|im_end|>⟧" in row(2, "--think", "[t]", "[/t]")
    assert "set aside: over_length" in row(2, "--max-length", "8", "--over-length", "refuse")


def test_a_row_of_a_file_is_shown_before_any_job(ask: Ask, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "2+2", "completion": "4"}\n')
    file_id = ask("files", "upload", str(rows)).stdout.strip()

    told = ask("files", "row", file_id, "1", "--model", BASE)
    as_json = ask("files", "row", file_id, "1", "--model", BASE, "--json")
    absent = ask("files", "row", file_id, "2", "--model", BASE)

    assert "⟦4<|im_end|>⟧" in told.stdout
    assert "\x1b" not in told.stdout
    assert json.loads(as_json.stdout)["object"] == "file.row"
    assert absent.exit_code == 1
    assert "no row on line 2" in absent.stderr


def test_a_receipt_is_shown_as_its_sums_or_by_the_line(
    ask: Ask, world: World, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "2+2", "completion": "4"}\n' * 12)
    job_id = ask("jobs", "create", str(rows), "--model", BASE).stdout.strip()
    early = ask("jobs", "receipt", job_id)
    world.run(job_id)
    world.put_receipt(job_id, lines=[1, 2])

    assert early.exit_code == 1
    assert "receipt_not_ready" in early.stderr
    assert json.loads(ask("jobs", "receipt", job_id, "--json").stdout) == {}
    shown = ask("jobs", "receipt", job_id, "--line", "2")
    assert shown.stdout.startswith("Line 2\n")
    assert "⟦" in shown.stdout
    missing = ask("jobs", "receipt", job_id, "--line", "2", "--file", "validation")
    assert "The validation file" in missing.stderr
