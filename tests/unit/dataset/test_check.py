from __future__ import annotations

import gzip
import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tunesmith.dataset import reading
from tunesmith.dataset.examples import Example
from tunesmith.dataset.formats import Format
from tunesmith.dataset.problems import Rule
from tunesmith.dataset.reading import SetAsideRow
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.spec import Method, Policy
from unit.dataset import checking
from unit.dataset.checking import Checked

ALPACA = {"instruction": "i", "output": "o"}
REAL = Path(__file__).parents[3].parent / "shared" / "data" / "alpaca_en_demo.json"


check = partial(checking.check, method=Method.SUPERVISED)
read_examples = partial(reading.read_examples, method=Method.SUPERVISED)


def lines(*rows: Any) -> io.BytesIO:
    return io.BytesIO("\n".join(json.dumps(row) for row in rows).encode())


def rules(report: Checked) -> list[str]:
    return [problem.rule for problem in report.problems]


def test_a_good_file_is_ok() -> None:
    report = check(lines(*[ALPACA] * 10))
    assert report.ok
    assert (report.format, report.examples, report.bad_rows) == (Format.ALPACA, 10, 0)
    assert (report.problems, report.counts, report.unanswered) == ([], {}, 0)


def test_an_array_is_as_good_as_lines() -> None:
    assert check(io.BytesIO(json.dumps([ALPACA] * 10, indent=1).encode())).examples == 10


@pytest.mark.parametrize("content", [b"", b"\n\n", b"[]"])
def test_an_empty_file_has_no_examples(content: bytes) -> None:
    report = check(io.BytesIO(content))
    assert not report.ok
    assert rules(report) == [Rule.NO_EXAMPLES]
    assert report.format is None
    assert rules(check(io.BytesIO(content), minimum=1)) == [Rule.NO_EXAMPLES]


def test_nine_examples_are_too_few_to_train_on_but_enough_to_evaluate_on() -> None:
    report = check(lines(*[ALPACA] * 9))
    assert rules(report) == [Rule.TOO_FEW_EXAMPLES]
    assert report.refusal == "The file holds 9 examples, but at least 10 are needed."
    assert check(lines(ALPACA), minimum=1).ok


def test_alpaca_rows_without_an_answer_are_no_fault_and_do_not_count() -> None:
    empty = ALPACA | {"output": " "}
    report = check(lines(*[ALPACA] * 10, *[empty] * 3))
    assert report.ok, "published files have such rows"
    assert (report.examples, report.unanswered) == (10, 3)
    few = check(lines(*[ALPACA] * 9, *[empty] * 3))
    assert rules(few) == [Rule.TOO_FEW_EXAMPLES]
    assert few.refusal == (
        "The file holds 9 examples with an answer, but at least 10 are needed. "
        "The answer of 3 more is empty: fill it in."
    )
    assert rules(check(lines(empty), minimum=1)) == [Rule.TOO_FEW_EXAMPLES]


def test_in_an_array_a_fault_and_an_example_are_told_by_their_number() -> None:
    content = json.dumps([*[ALPACA] * 52, ALPACA | {"output": 7}]).encode()
    report = check(io.BytesIO(content))
    assert (
        report.refusal == "Example 53 (line 1), /output: 'output' must be a string, not a number."
    )
    assert (report.problems[0].line, report.problems[0].element) == (1, 53)
    found = list(read_examples(io.BytesIO(content), limit=2))
    assert [item.place for item in found if isinstance(item, Example)] == [
        "Example 1 (line 1)",
        "Example 2 (line 1)",
    ]


def test_the_first_twenty_problems_of_each_rule_are_kept_and_all_are_counted() -> None:
    report = check(lines(*[ALPACA] * 5, *[{"instruction": "i"}] * 25, *[7] * 22))
    assert (report.examples, report.bad_rows, report.problem_count) == (5, 47, 47)
    assert report.counts == {Rule.MISSING_KEY: 25, Rule.NOT_AN_OBJECT: 22}
    assert [problem.line for problem in report.problems] == [*range(6, 26), *range(31, 51)]


def test_bad_rows_may_be_set_aside_up_to_a_share() -> None:
    file = lines(*[ALPACA] * 18, 7, {"instruction": 1})
    report = check(file, bad_rows=Policy.SET_ASIDE, bad_rows_share=0.1)
    assert (report.ok, report.examples, report.bad_rows) == (True, 18, 2)
    assert report.problem_count == 3, "both that are wrong with the last row"
    file.seek(0)
    report = check(file, bad_rows=Policy.SET_ASIDE, bad_rows_share=0.09)
    assert not report.ok
    assert report.problems[0].rule == Rule.TOO_MANY_BAD_ROWS
    assert "2 of 20 rows break a rule" in report.refusal
    file.seek(0)
    assert not check(file).ok, "the policy is to refuse"


def test_enough_examples_must_remain_besides_the_rows_set_aside() -> None:
    report = check(lines(*[ALPACA] * 9, 7), bad_rows=Policy.SET_ASIDE, bad_rows_share=0.5)
    assert rules(report) == [Rule.TOO_FEW_EXAMPLES, Rule.NOT_AN_OBJECT]
    assert report.refusal.endswith("The file holds 9 examples, but at least 10 are needed.")


@pytest.mark.parametrize(
    "broken",
    [
        json.dumps([ALPACA] * 50).encode()[:-1],
        gzip.compress(lines(*[ALPACA] * 50).read())[:-1],
        lines({"chosen": "c", "rejected": "r"}).read(),
    ],
    # The bytes of a gzip file hold the time, and each process that runs tests must name them alike.
    ids=["json", "gzip", "pairs"],
)
def test_a_file_that_cannot_be_read_to_its_end_is_refused_whatever_the_policy(
    broken: bytes,
) -> None:
    report = check(io.BytesIO(broken), bad_rows=Policy.SET_ASIDE, bad_rows_share=0.9)
    assert not report.ok
    found = read_examples(io.BytesIO(broken), limit=None, bad_rows=Policy.SET_ASIDE)
    with pytest.raises(InvalidRequestError):
        list(found)


def test_rows_set_aside_are_yielded_among_the_examples_and_do_not_count() -> None:
    file = lines(ALPACA, 7, {"instruction": 1}, ALPACA, ALPACA)
    found = list(read_examples(file, limit=2, bad_rows=Policy.SET_ASIDE))
    assert [item.line for item in found] == [1, 2, 3, 4]
    assert found[1] == SetAsideRow(
        2, 0, Rule.NOT_AN_OBJECT, "Line 2: expected an object, found a number."
    )
    assert isinstance(found[2], SetAsideRow)
    assert found[2].rule == Rule.MISSING_KEY
    assert found[2].message.endswith("(And 1 more.)")


def test_the_summary_names_the_first_places_and_how_many_more_there_are() -> None:
    text = check(lines(ALPACA, {"instruction": "i"}, 7, {"output": "o"}, [], None)).refusal
    assert text.startswith("5 problems were found. Line 2: the key 'output' is missing.")
    assert "Line 3: expected an object, found a number." in text
    assert text.endswith("(And 2 more.)")
    assert "Line 5" not in text
    assert check(lines(ALPACA, 7)).refusal == "Line 2: expected an object, found a number."


def test_the_examples_of_a_checked_file_are_read_in_order_up_to_the_limit() -> None:
    rows = [ALPACA | {"output": str(number)} for number in range(5)]
    for limit, expected in ((None, 5), (3, 3), (9, 5)):
        found = list(read_examples(lines(*rows), limit=limit))
        assert [item.messages[1].content for item in found if isinstance(item, Example)] == list(
            "01234"
        )[:expected]
    assert [item.line for item in read_examples(lines(*rows), limit=2)] == [1, 2]


def test_a_file_that_was_never_checked_is_refused_at_its_bad_row() -> None:
    with pytest.raises(InvalidRequestError, match="Line 2: expected an object") as caught:
        list(read_examples(lines(ALPACA, 7), limit=None))
    assert caught.value.code == "not_an_object"


def test_a_published_alpaca_file_is_ok() -> None:
    if not REAL.exists():
        pytest.skip(f"{REAL.name} is not beside this repository")
    with REAL.open("rb") as file:
        report = check(file)
    assert report.ok, report.refusal
    assert report.examples == len(json.loads(REAL.read_text("utf-8")))
    with REAL.open("rb") as file:
        assert all(
            isinstance(example, Example) and example.messages[-1].learn
            for example in read_examples(file, limit=None)
        )
