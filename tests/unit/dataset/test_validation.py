"""One read, all that is wrong, counted and placed, whatever the number of processes."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import orjson
import pytest

from tunesmith.dataset import blocks, pool
from tunesmith.dataset.pool import Workers
from tunesmith.dataset.validation import Sources, validate
from tunesmith.domain.validation import ValidationOptions, ValidationReport

OPTIONS = ValidationOptions(minimum=1)


def row(asked: str, answer: str) -> dict[str, Any]:
    turns = [("user", asked), ("assistant", answer)]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def lines(*rows: object) -> bytes:
    return b"".join(
        (item if isinstance(item, bytes) else orjson.dumps(item)) + b"\n" for item in rows
    )


def report_on(content: bytes, **options: Any) -> ValidationReport:
    chosen = OPTIONS.model_copy(update=options)
    return validate(Sources(BytesIO(content)), chosen)


def test_a_sound_file_has_nothing_found_and_an_estimate_of_the_run_that_auto_makes() -> None:
    report = report_on(lines(*(row(f"Is {n} even?", f"No: {n}.") for n in range(40))), minimum=10)

    assert (report.format, report.examples, report.ok) == ("chat", 40, True)
    assert (report.findings, report.counts, report.truncated) == ((), {}, False)
    assert report.estimate is not None
    assert report.estimate.model_dump() == {
        "n_epochs": 10,
        "batch_size": 4,
        "steps": 100,
        "trained_tokens": None,
    }


def test_the_estimate_keeps_what_was_asked_for() -> None:
    content = lines(*(row(f"Is {n} even?", f"No: {n}.") for n in range(40)))

    estimate = report_on(content, n_epochs=3, batch_size=16).estimate

    assert estimate is not None
    assert (estimate.n_epochs, estimate.batch_size, estimate.steps) == (3, 16, 9)


def test_every_bad_row_is_counted_and_the_first_of_each_rule_are_listed_in_order() -> None:
    bad = [b"{]", b'{"messages": 1}', orjson.dumps({"what": 1})] * 30
    content = lines(row("a", "b"), *bad, row("c", "d"))

    report = validate(Sources(BytesIO(content)), OPTIONS, kept=2)

    assert sum(report.counts.values()) == report.error_count == 90
    assert report.truncated
    assert [found.line for found in report.findings] == sorted(f.line for f in report.findings)
    assert {found.line for found in report.findings} <= set(range(2, 8))
    assert report.examples == 2


def test_a_file_with_too_few_examples_is_an_error_of_the_file() -> None:
    report = report_on(lines(row("a", "b")), minimum=10)

    assert report.counts == {"too_few_examples": 1}
    assert report.findings[0].line == 0
    assert not report.ok


def test_an_empty_file_is_an_error_and_has_no_estimate() -> None:
    report = report_on(b"")

    assert (report.counts, report.estimate) == ({"no_examples": 1}, None)


def test_an_empty_answer_is_a_warning_and_no_example() -> None:
    empty = {"prompt": "What?", "completion": " "}
    report = report_on(lines({"prompt": "Why?", "completion": "So."}, empty))

    assert (report.examples, report.counts, report.ok) == (1, {"empty_answer": 1}, True)


def test_duplicates_are_told_from_near_duplicates_and_name_the_first() -> None:
    report = report_on(
        lines(
            row("What is it?", "A cat."),
            row("Where is it?", "There."),
            row("What is it?", "A cat."),
            row("what is it", "a  cat!"),
            row("What is it?", "A cat, here."),
            row("what is it", "a  cat!"),
        )
    )

    assert [(found.line, found.rule) for found in report.findings] == [
        (3, "duplicate"),
        (4, "near_duplicate"),
        (6, "duplicate"),
    ]
    assert "the same example as Line 1." in report.findings[0].message
    assert "the same as Line 1." in report.findings[1].message
    assert "the same example as Line 4." in report.findings[2].message
    assert report.ok


def test_an_example_of_the_validation_file_in_the_training_file_is_warned_of() -> None:
    training = lines(row("What is it?", "A cat."), row("Where?", "There."))
    held_out = lines(row("Who?", "Me."), b"{]", row("WHERE?", "there"))

    report = validate(Sources(BytesIO(training), BytesIO(held_out)), OPTIONS)

    assert report.counts == {"overlap": 1}
    (found,) = report.findings
    assert (found.line, found.severity) == (2, "warn")
    assert "(Line 3)" in found.message


def test_many_problems_of_one_kind_are_counted_in_full_and_listed_in_part() -> None:
    report = validate(Sources(BytesIO(lines(*[row("a", "b")] * 50))), OPTIONS, kept=3)

    assert report.counts == {"duplicate": 49}
    assert [found.line for found in report.findings] == [2, 3, 4]
    assert report.truncated


@pytest.mark.parametrize("fork", [True, False])
def test_several_processes_report_exactly_what_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, fork: bool
) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 2**15)
    monkeypatch.setattr(pool, "BLOCK", 2**15)
    rows: list[object] = [row(f"Is {n} even?", "It is. " * 20) for n in range(3000)]
    rows[700], rows[2500], rows[2900] = b"{]", b"", rows[100]
    rows[2999] = {"messages": []}
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + lines(*rows))

    with path.open("rb") as alone, path.open("rb") as shared:
        one = validate(Sources(alone), OPTIONS, workers=Workers(1))
        two = validate(Sources(shared), OPTIONS, workers=Workers(2, fork=fork))
    of_no_file = Sources(BytesIO(path.read_bytes()))

    assert one == two == validate(of_no_file, OPTIONS, workers=Workers(2, fork=fork))
    assert {found.line: found.rule for found in two.findings} == {
        701: "invalid_json",
        2901: "duplicate",
        3000: "empty",
    }
    assert two.examples == 2997


def test_blocks_end_at_line_ends_and_know_their_first_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "FIRST_BLOCK", 10)
    monkeypatch.setattr(blocks, "BLOCK", 10)
    content = b"\n".join(b"x" * length for length in range(1, 30))

    found = list(blocks.blocks(BytesIO(content)))

    assert b"".join(block.data for block in found) == content
    for block in found:
        assert content[block.begin :].startswith(block.data)
        assert block.line == 1 + content[: content.index(block.data)].count(b"\n")
        assert block is found[-1] or block.data.endswith(b"\n")


def test_the_rest_of_a_line_that_is_too_long_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blocks, "FIRST_BLOCK", 8)
    monkeypatch.setattr(blocks, "MAX_ROW_SIZE", 16)
    content = b"{" + b"x" * 100 + b"\nsecond\nthird\n"

    found = list(blocks.blocks(BytesIO(content)))

    assert len(found[0].data) == 8 + 17
    assert (found[1].line, found[1].data) == (2, b"second\nthird\n")
    assert found[1].begin == content.index(b"second")


@pytest.mark.parametrize("name", ["alpaca_en_demo.json", "glaive_toolcall_en_demo.json"])
def test_published_files_are_read_whole(name: str) -> None:
    path = Path(__file__).parents[4] / "shared" / "data" / name
    if not path.exists():
        pytest.skip(f"{name} is not here")
    with path.open("rb") as file:
        report = validate(Sources(file), ValidationOptions())

    assert report.ok
    assert report.examples > 100
