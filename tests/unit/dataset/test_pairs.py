from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith.dataset.examples import AnyExample, Message, Pair, Ranking, Reasoning, Text
from tunesmith.dataset.formats import FORMATS_OF, Format, Parser
from tunesmith.dataset.problems import Problem, Rule
from tunesmith.dataset.reading import read_examples
from tunesmith.dataset.rows import Row
from tunesmith.domain.spec import Method
from unit.dataset.checking import check

SHARED = Path(__file__).parents[3].parent / "shared" / "data"
USER = {"role": "user", "content": "q"}
ASKED = Message("user", "q", learn=False)
CHOSEN = Message("assistant", "c", learn=True)
REJECTED = Message("assistant", "r", learn=True)
FUNCTION = {"name": "f", "parameters": {"type": "object"}}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


PREFERENCE = {
    "input": {"messages": [USER]},
    "preferred_output": [said("c")],
    "non_preferred_output": [said("r")],
}
ANSWERS = {"chosen": {"from": "gpt", "value": "c"}, "rejected": {"from": "gpt", "value": "r"}}
RANKED = {"conversations": [{"from": "human", "value": "q"}], **ANSWERS}
OPEA = {"system": "s", "question": "q", "chosen": "c", "rejected": "r"}


def parse(value: object, *, method: Method | None = Method.DPO) -> AnyExample | tuple[Problem, ...]:
    return Parser(method).parse(Row(3, value))


def pair(value: object) -> Pair:
    found = parse(value)
    assert isinstance(found, Pair), found
    return found


def places(value: object) -> list[tuple[Rule, str]]:
    found = parse(value)
    assert isinstance(found, tuple), found
    return [(problem.rule, problem.pointer) for problem in found]


@pytest.mark.parametrize(
    "row",
    [
        PREFERENCE,
        {
            "input": {"messages": [USER], "tools": [], "parallel_tool_calls": True},
            "preferred_completion": [said("c")],
            "non_preferred_completion": [said("r")],
        },
        RANKED,
        {"instruction": "q", "chosen": "c", "rejected": "r"},
        {"prompt": "q", "chosen": "c", "rejected": "r", "score": 7},
        {"system": "", "question": "q", "chosen": "c", "rejected": "r"},
    ],
)
def test_a_pair_is_a_prompt_and_two_answers_in_whatever_format(row: object) -> None:
    assert pair(row) == Pair(3, (ASKED,), CHOSEN, REJECTED)
    assert pair(row).answered


def test_what_comes_before_the_answers_is_not_learnt() -> None:
    system = Message("system", "s", learn=False)
    assert pair(OPEA).prompt == (system, ASKED)
    earlier = [USER, said("a"), USER]
    turns = pair(PREFERENCE | {"input": {"messages": earlier}}).prompt
    assert [turn.learn for turn in turns] == [False, False, False]
    shared = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    row = RANKED | {"conversations": [*shared, shared[0]], "system": "s"}
    assert [turn.role for turn in pair(row).prompt] == ["system", "user", "assistant", "user"]
    assert not any(turn.learn for turn in pair(row).prompt)


def test_an_answer_may_call_the_prompts_tools() -> None:
    tool = {"type": "function", "function": FUNCTION}
    calls = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    row = PREFERENCE | {
        "input": {"messages": [USER], "tools": [tool]},
        "preferred_output": [calls],
        "non_preferred_output": [calls],
    }
    found = pair(row)
    assert found.tools == (tool,)
    assert found.chosen.tool_calls == found.rejected.tool_calls
    ranked = RANKED | {
        "tools": [FUNCTION],
        "chosen": {"from": "function_call", "value": json.dumps(CALL["function"])},
    }
    assert pair(ranked).chosen.tool_calls[0].name == "f"


def test_a_published_pair_without_an_answer_is_known_as_one() -> None:
    for row in (RANKED | {"chosen": {"from": "gpt", "value": ""}}, OPEA | {"rejected": " "}):
        assert not pair(row).answered


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (PREFERENCE | {"input": {}}, [(Rule.MISSING_KEY, "/input")]),
        (PREFERENCE | {"input": [USER]}, [(Rule.NOT_AN_OBJECT, "/input")]),
        (PREFERENCE | {"other": 1}, [(Rule.UNKNOWN_KEY, "")]),
        (
            PREFERENCE | {"input": {"messages": [USER, said("a")]}},
            [(Rule.ROLE_ORDER, "/input/messages/1/role")],
        ),
        (
            PREFERENCE | {"preferred_output": [], "non_preferred_output": "r"},
            [(Rule.EMPTY, "/preferred_output"), (Rule.WRONG_TYPE, "/non_preferred_output")],
        ),
        (
            PREFERENCE | {"preferred_output": [said("c"), said("d")]},
            [(Rule.WRONG_VALUE, "/preferred_output")],
        ),
        (
            PREFERENCE | {"preferred_output": [USER], "non_preferred_output": [said("")]},
            [
                (Rule.ROLE_ORDER, "/preferred_output/0/role"),
                (Rule.EMPTY, "/non_preferred_output/0/content"),
            ],
        ),
        (
            PREFERENCE | {"preferred_completion": [said("c")]},
            [(Rule.WRONG_VALUE, "/preferred_completion")],
        ),
        ({"input": PREFERENCE["input"], "preferred_output": [said("c")]}, [(Rule.MISSING_KEY, "")]),
        (RANKED | {"chosen": 7}, [(Rule.WRONG_TYPE, "/chosen")]),
        (RANKED | {"chosen": {"from": "human", "value": "c"}}, [(Rule.ROLE_ORDER, "/chosen/from")]),
        (
            RANKED | {"conversations": [ANSWERS["chosen"]], "rejected": None},
            [(Rule.ROLE_ORDER, "/conversations/0/from"), (Rule.WRONG_TYPE, "/rejected")],
        ),
        ({"chosen": "c", "rejected": "r"}, [(Rule.MISSING_KEY, "")]),
        (
            {"question": "", "chosen": 1},
            [(Rule.EMPTY, "/question"), (Rule.WRONG_TYPE, "/chosen"), (Rule.MISSING_KEY, "")],
        ),
    ],
)
def test_all_that_is_wrong_with_a_pair_is_met_with_its_place(
    value: object, expected: list[tuple[Rule, str]]
) -> None:
    assert places(value) == expected


def test_texts_reasoning_and_rankings_are_parsed_where_any_method_will_do() -> None:
    def each(value: object) -> AnyExample | tuple[Problem, ...]:
        return parse(value, method=None)

    assert each({"text": "t", "url": "u"}) == Text(3, "t")
    row = {"Question": "q", "Complex_CoT": "t", "Response": "r"}
    assert each(row) == Reasoning(3, "q", "t", "r")
    assert each({"Question": "q", "Response": "r"}) == Reasoning(3, "q", "", "r")
    ranking = {"query": "q", "pos": ["p"], "neg": ["m", "n"], "prompt": "x", "pos_scores": [1]}
    assert each(ranking) == Ranking(3, "q", ("p",), ("m", "n"), prompt="x")
    assert each({"query": "q", "pos": ["p"]}) == Ranking(3, "q", ("p",), ())
    bad = each({"query": "", "pos": ["", 7], "neg": "n"})
    assert isinstance(bad, tuple)
    assert [(problem.rule, problem.pointer) for problem in bad] == [
        (Rule.EMPTY, "/query"),
        (Rule.EMPTY, "/pos/0"),
        (Rule.WRONG_TYPE, "/pos/1"),
        (Rule.WRONG_TYPE, "/neg"),
    ]


@pytest.mark.parametrize("method", Method)
def test_a_method_takes_its_own_formats_and_refuses_others_by_both_names(method: Method) -> None:
    rows: dict[Format, Callable[[], dict[str, Any]]] = {
        Format.ALPACA: lambda: {"instruction": "i", "output": "o"},
        Format.OPEA_DPO: lambda: OPEA,
        Format.TEXT: lambda: {"text": "t"},
    }
    for name, row in rows.items():
        content = io.BytesIO("\n".join([json.dumps(row())] * 10).encode())
        report = check(content, method=method)
        assert report.format == name
        assert report.ok is (name in FORMATS_OF[method])
        if not report.ok:
            assert report.counts == {Rule.WRONG_METHOD: 1}
            assert f"'{name}', which the method '{method}' does not take" in report.refusal


@pytest.mark.parametrize(
    ("name", "format", "examples"),
    [
        ("dpo_en_demo.json", Format.RANKING, 300),
        ("c4_demo.jsonl", Format.TEXT, 300),
        ("rerank_en_demo.jsonl", Format.RERANK, 10),
        ("embedding_nq_demo.jsonl", Format.RERANK, 10),
    ],
)
def test_published_files_of_other_methods_are_ok(
    name: str,
    format: Format,  # noqa: A002
    examples: int,
) -> None:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{name} is not beside this repository")
    with path.open("rb") as file:
        report = check(file, method=None)
        file.seek(0)
        kinds = {type(item) for item in read_examples(file, method=None, limit=None)}
    assert report.ok, report.refusal
    assert (report.format, report.examples, report.unanswered) == (format, examples, 0)
    assert len(kinds) == 1


def test_a_pair_whose_answers_are_the_same_is_told_and_taken() -> None:
    rows = [
        {"prompt": "Capital?", "chosen": "Paris.", "rejected": "Paris."},
        {"prompt": "River?", "chosen": "Seine.", "rejected": "Tiber."},
    ]
    file = io.BytesIO(b"\n".join(json.dumps(row).encode() for row in rows))
    report = check(file, method=Method.DPO, minimum=1).report
    assert (report.ok, report.examples, report.counts) == (True, 2, {"same_answers": 1})
    assert report.findings[0].line == 1
