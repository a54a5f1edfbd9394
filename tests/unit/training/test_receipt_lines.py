"""What became of each line is written down before training begins, token by token."""

from __future__ import annotations

import json
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from transformers import AutoTokenizer

from tunesmith.artifacts.receipts import LineReceipt, read_line
from tunesmith.dataset.showing import show_row
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.shown_rows import AskedRow
from tunesmith.domain.spec import LoraSpec, Policy
from tunesmith.domain.validation import ValidationOptions
from tunesmith.training.loop import run_loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from unit.training.conftest import Bench, Rows

LONG = {"instruction": "Say it.", "output": "on and on " * 30}
LOST = {"instruction": "long " * 60, "output": "lost"}


def told(bench: Bench) -> list[dict[str, Any]]:
    text = bench.artifacts.get(f"{bench.run.prefix}/receipt.jsonl").decode()
    return [json.loads(line) for line in text.splitlines()]


def shown(bench: Bench, line: int, file: str = "training") -> list[LineReceipt]:
    with bench.artifacts.open(f"{bench.run.prefix}/receipt.parquet") as stream:
        return read_line(stream, file, line=line)


def test_each_line_of_both_files_is_listed_once_in_order(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    data = [*rows(3), LOST, *rows(2)]
    bench.write_spec(data, n_epochs=1, validation_file=bench.upload("valid", rows(2)))

    bench.train()

    assert [(row["file"], row["line"], row["split"]) for row in told(bench)] == [
        *(("training", line, None if line == 4 else "train") for line in range(1, 7)),
        ("validation", 1, "held_out"),
        ("validation", 2, "held_out"),
    ]


def test_the_lines_add_up_to_the_sums(bench: Bench, rows: Callable[[int], Rows]) -> None:
    bench.write_spec([*rows(12), LONG, LOST], n_epochs=1, held_out_percent=25.0)

    bench.train()

    receipt = json.loads(bench.artifacts.get(f"{bench.run.prefix}/receipt.json"))
    report, lines = receipt["training"]["report"], told(bench)
    used = [row for row in lines if row["rule"] is None]
    assert sum(row["tokens"] for row in used) == report["tokens"]
    assert sum(row["tokens_learnt"] for row in used) == report["learnt_tokens"]
    assert sum(row["split"] == "held_out" for row in used) == receipt["held_out_examples"] == 3
    assert [row["line"] for row in used if row["cut"]] == [13]
    assert [row["line"] for row in used if not row["end_learnt"]] == [13]
    assert lines[-1]["rule"] == "answer_cut_away"
    assert lines[-1]["reason"].startswith("Line 14: what comes before the answer fills")
    assert lines[-1]["tokens"] is None


def test_a_line_is_shown_as_the_model_saw_it_without_its_tokenizer(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    data = [*rows(2), {"instruction": "Grüße", "output": "né"}]
    bench.write_spec(data, n_epochs=1)
    bench.train()

    [line] = shown(bench, 3)

    assert line.pieces is not None
    assert line.learnt is not None
    assert line.token_ids is not None
    text = "<|im_start|>user\nGrüße<|im_end|>\n<|im_start|>assistant\nné<|im_end|>"
    tokenizer = AutoTokenizer.from_pretrained(bench.base)
    assert list(line.token_ids) == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert line.pieces[:3] == ("<|im_start|>", "u", "s")
    learnt = [piece for piece, learnt in zip(line.pieces, line.learnt, strict=True) if learnt]
    assert learnt == ["n", "\ufffd", "\ufffd", "<|im_end|>"]
    assert (line.tokens, line.tokens_learnt) == (len(line.token_ids), 4)


def test_elements_of_an_array_on_one_line_are_told_apart(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    array = bench.upload_text("array", json.dumps(rows(5)))
    bench.write_spec([], training_file=array, n_epochs=1)
    bench.train()

    with bench.artifacts.open(f"{bench.run.prefix}/receipt.parquet") as stream:
        [third] = read_line(stream, "training", line=1, element=3)
        [first] = read_line(stream, "training", line=1)

    assert (first.element, third.element) == (1, 3)
    assert "Say very very 2<|im_end|>" in "".join(third.pieces or ())


def test_the_receipt_is_there_before_the_first_step_and_stays_the_same(
    bench: Bench, rows: Callable[[int], Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write_spec(rows(8), n_epochs=1, lora=LoraSpec(rank=4, alpha=8))
    names = ("receipt.jsonl", "receipt.parquet")

    def contents() -> list[bytes]:
        return [bench.artifacts.get(f"{bench.run.prefix}/{name}") for name in names]

    before: list[list[bytes]] = []

    def look_and_run(course: Any) -> None:
        before.append(contents())
        receipt = json.loads(bench.artifacts.get(f"{bench.run.prefix}/receipt.json"))
        assert receipt["training"]["report"]["examples"] == 8
        assert receipt["steps"] is None
        run_loop(course)

    monkeypatch.setattr("tunesmith.training.run.run_loop", look_and_run)

    assert bench.train().error is None

    assert contents() == before[0]
    assert json.loads(bench.artifacts.get(f"{bench.run.prefix}/receipt.json"))["steps"] == 2
    bench.run.claim(2)
    bench.train(attempt=2)
    assert contents() == before[0] == before[1]


def test_examples_that_are_too_long_fail_the_job_where_the_policy_refuses_them(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec([*rows(3), LONG, LOST], over_length=Policy.REFUSE)

    error = bench.train().error

    assert error is not None
    assert error.code is FailureCode.INVALID_TRAINING_FILE
    assert error.message.startswith("More than 128 tokens: Line 4, Line 5. Shorten them,")


def test_examples_that_are_too_long_are_left_out_where_the_policy_sets_them_aside(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec([*rows(3), LONG], n_epochs=1, over_length=Policy.SET_ASIDE)

    assert bench.train().error is None

    last = told(bench)[-1]
    assert (last["rule"], last["split"]) == ("over_length", None)
    assert "Line 4: it has more than 128 tokens." in last["reason"]


def test_a_row_that_breaks_a_rule_is_listed_where_the_policy_sets_it_aside(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    data: list[dict[str, Any]] = [*rows(3), {"instruction": "Say 1", "output": 1}, *rows(2)]
    bench.write_spec(data, n_epochs=1, bad_rows=Policy.SET_ASIDE)

    assert bench.train().error is None

    assert [(row["line"], row["rule"]) for row in told(bench)] == [
        *((line, None) for line in (1, 2, 3)),
        (4, "wrong_type"),
        *((line, None) for line in (5, 6)),
    ]


def test_a_file_is_shown_before_a_job_as_the_receipt_of_the_job_says(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    data = [*rows(3), LONG, LOST, {"instruction": "Grüße", "output": " né 🙂"}]
    bench.write_spec(data, n_epochs=1)
    bench.train()

    tokenizer = FolderTokenizer(bench.base)
    options = ValidationOptions(max_length=128)
    content = "".join(json.dumps(row) + "\n" for row in data).encode()
    for number in range(1, len(data) + 1):
        asked = AskedRow(line=number)
        before = show_row(BytesIO(content), options, tokenizer=tokenizer, asked=asked)
        [after] = shown(bench, number)
        assert before is not None
        assert (before.rule, before.reason) == (after.rule, after.reason)
        if after.text:
            [text] = before.texts
            assert text.model_dump() == {
                key: getattr(after, key) for key in type(text).model_fields
            }
