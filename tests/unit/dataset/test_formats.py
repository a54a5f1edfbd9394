from __future__ import annotations

import json
from typing import Any

import pytest

from tunesmith.dataset.examples import AnyExample, Example, Message
from tunesmith.dataset.formats import Format, Parser
from tunesmith.dataset.problems import Problem, Rule
from tunesmith.dataset.rows import Row
from tunesmith.domain.spec import Method

USER = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a"}
ALPACA = {"instruction": "i", "output": "o"}


def parse(value: object) -> AnyExample | tuple[Problem, ...]:
    return Parser(Method.SUPERVISED).parse(Row(3, value))


def problem(value: object) -> Problem:
    found = parse(value)
    assert isinstance(found, tuple), found
    assert len(found) == 1, found
    return found[0]


def messages(value: object) -> tuple[Message, ...]:
    found = parse(value)
    assert isinstance(found, Example), found
    assert found.line == 3
    return found.messages


def chat(*turns: dict[str, Any]) -> dict[str, Any]:
    return {"messages": list(turns)}


def test_alpaca_puts_the_input_behind_the_instruction_and_learns_the_output() -> None:
    learnt = Message("assistant", "o", learn=True)
    expected = (Message("user", "i", learn=False), learnt)
    assert messages(ALPACA) == expected
    assert messages(ALPACA | {"input": ""}) == expected
    assert messages(ALPACA | {"input": None}) == expected
    assert messages(ALPACA | {"input": "x"}) == (Message("user", "i\n\nx", learn=False), learnt)


def test_alpaca_passes_over_the_further_keys_of_published_files() -> None:
    assert messages(ALPACA | {"text": "…", "id": 7}) == messages(ALPACA)


def test_alpaca_may_have_an_empty_answer_which_is_known_as_one() -> None:
    empty = parse(ALPACA | {"output": " \n"})
    assert isinstance(empty, Example)
    assert not empty.answered
    full = parse(ALPACA)
    assert isinstance(full, Example)
    assert full.answered


def test_chat_learns_the_assistants_messages_whose_weight_is_not_zero() -> None:
    system = {"role": "system", "content": "s"}
    unlearnt = ANSWER | {"weight": 0}
    found = messages(chat(system, USER, unlearnt, USER, ANSWER | {"weight": 1}, USER, ANSWER))
    assert [message.role for message in found] == [
        "system", "user", "assistant", "user", "assistant", "user", "assistant",
    ]  # fmt: skip
    assert [message.learn for message in found] == [False, False, False, False, True, False, True]


def test_a_developer_is_a_system_by_its_older_name() -> None:
    found = messages(chat({"role": "developer", "content": "s"}, USER, ANSWER))
    assert found[0] == Message("system", "s", learn=False)


def test_text_parts_are_joined_and_names_and_nulls_are_passed_over() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    asked = {"role": "user", "content": parts, "name": "Ada", "weight": None}
    answer = ANSWER | {"tool_calls": None, "refusal": None}
    assert [message.content for message in messages(chat(asked, answer))] == ["ab", "a"]


@pytest.mark.parametrize(
    ("value", "rule", "pointer", "words"),
    [
        ([1], Rule.NOT_AN_OBJECT, "", "found an array"),
        (None, Rule.NOT_AN_OBJECT, "", "found null"),
        ({}, Rule.UNKNOWN_FORMAT, "", "empty"),
        ({"promt": "p", "answer": "c"}, Rule.UNKNOWN_FORMAT, "", "'promt', 'answer'"),
        ({"instruction": "i", "ouput": "o"}, Rule.MISSING_KEY, "", "'output' is missing. Found 'i"),
        ({"instructoin": "i", "output": "o"}, Rule.MISSING_KEY, "", "'instruction' is missing"),
        (ALPACA | {"instruction": ""}, Rule.EMPTY, "/instruction", "empty"),
        (ALPACA | {"output": 7}, Rule.WRONG_TYPE, "/output", "not a number"),
        (ALPACA | {"output": None}, Rule.WRONG_TYPE, "/output", "not null"),
        (ALPACA | {"input": ["x"]}, Rule.WRONG_TYPE, "/input", "not an array"),
        (ALPACA | {"output": "\ud83d"}, Rule.NOT_UNICODE, "/output", "surrogate"),
        ({"messages": {}}, Rule.WRONG_TYPE, "/messages", "not an object"),
        (chat(), Rule.EMPTY, "/messages", "empty"),
        (chat(USER, ANSWER) | {"mesages": 1}, Rule.UNKNOWN_KEY, "", "'mesages'"),
        (chat(USER, ANSWER, USER), Rule.ROLE_ORDER, "/messages/2/role", "the user's"),
        (chat(USER, ANSWER | {"weight": 0}), Rule.NOTHING_LEARNT, "/messages", "weight 1"),
        (chat({"content": "q"}), Rule.MISSING_KEY, "/messages/0", "'role' is missing"),
        (chat({"role": "user"}, ANSWER), Rule.MISSING_KEY, "/messages/0", "'content' is missing"),
        (chat("q"), Rule.NOT_AN_OBJECT, "/messages/0", "a string"),  # type: ignore[arg-type]
        (chat(USER | {"role": "sytem"}), Rule.WRONG_VALUE, "/messages/0/role", "'sytem'"),
        (chat(USER | {"role": True}), Rule.WRONG_TYPE, "/messages/0/role", "a boolean"),
        (chat(USER | {"weight": 1}, ANSWER), Rule.UNKNOWN_KEY, "/messages/0/weight", "assistant"),
        (chat(USER | {"wieght": 1}, ANSWER), Rule.UNKNOWN_KEY, "/messages/0", "'wieght'"),
        (chat(USER | {"name": 7}, ANSWER), Rule.WRONG_TYPE, "/messages/0/name", "string"),
        (chat(USER, ANSWER | {"weight": 2}), Rule.WRONG_VALUE, "/messages/1/weight", "0 or 1"),
        (chat(USER, ANSWER | {"weight": True}), Rule.WRONG_VALUE, "/messages/1/weight", "0 or 1"),
        (chat(USER, ANSWER | {"content": ""}), Rule.EMPTY, "/messages/1/content", "empty"),
        (chat(USER, ANSWER | {"content": None}), Rule.WRONG_TYPE, "/messages/1/content", "null"),
        (
            chat(USER, USER | {"role": "system"}, ANSWER),
            Rule.ROLE_ORDER,
            "/messages/1/role",
            "only be the first",
        ),
        (
            chat(USER | {"content": [{"type": "image_url"}]}, ANSWER),
            Rule.NOT_SUPPORTED,
            "/messages/0/content/0/type",
            "'image_url'",
        ),
    ],
)
def test_a_bad_row_is_met_with_its_place_and_mend(
    value: object, rule: Rule, pointer: str, words: str
) -> None:
    found = problem(value)
    assert (found.line, found.rule, found.pointer) == (3, rule, pointer)
    assert found.message.startswith(f"Line 3, {pointer}: " if pointer else "Line 3: ")
    assert words in found.message


def test_messages_of_problems_can_be_sent_whatever_the_keys_hold() -> None:
    for value in (
        {"\ud800": 1},
        chat(USER | {"\udfff" * 999: 1}, ANSWER),
        chat(USER | {"role": "\x00"}),
    ):
        text = problem(value).message
        assert len(text) < 500
        json.dumps(text, ensure_ascii=False).encode()


def test_all_rows_must_have_the_first_valid_rows_format() -> None:
    parser = Parser(Method.SUPERVISED)
    assert isinstance(parser.parse(Row(1, {"messages": []})), tuple)
    assert parser.format is None, "a broken row settles nothing"
    assert isinstance(parser.parse(Row(2, ALPACA)), Example)
    assert parser.format is Format.ALPACA
    mixed = parser.parse(Row(3, chat(USER, ANSWER)))
    assert isinstance(mixed, tuple)
    assert [found.rule for found in mixed] == [Rule.MIXED_FORMATS]
    assert "chat" in mixed[0].message
    assert "alpaca" in mixed[0].message
    neither = parser.parse(Row(4, {"a": 1}))
    assert isinstance(neither, tuple)
    assert "messages" not in neither[0].message, "only the settled format is asked for"


def test_all_that_is_wrong_with_a_row_is_told_at_once() -> None:
    found = parse(
        chat(
            USER | {"content": 7, "wieght": 1},
            USER | {"role": "sytem"},
            "x",  # type: ignore[arg-type]
            ANSWER | {"weight": 2, "content": ""},
            ANSWER | {"content": [{"type": "image_url"}, {"type": "text"}]},
        )
        | {"mesages": 1}
    )
    assert isinstance(found, tuple)
    assert [(problem.rule, problem.pointer) for problem in found] == [
        (Rule.UNKNOWN_KEY, ""),
        (Rule.UNKNOWN_KEY, "/messages/0"),
        (Rule.WRONG_TYPE, "/messages/0/content"),
        (Rule.WRONG_VALUE, "/messages/1/role"),
        (Rule.NOT_AN_OBJECT, "/messages/2"),
        (Rule.WRONG_VALUE, "/messages/3/weight"),
        (Rule.NOT_SUPPORTED, "/messages/4/content/0/type"),
        (Rule.MISSING_KEY, "/messages/4/content/1"),
    ]
    assert {problem.line for problem in found} == {3}


def test_what_follows_from_a_told_fault_is_not_told_again() -> None:
    found = parse(chat(USER, ANSWER | {"weight": 7}, "x"))  # type: ignore[arg-type]
    assert isinstance(found, tuple)
    assert [problem.rule for problem in found] == [Rule.WRONG_VALUE, Rule.NOT_AN_OBJECT], (
        "neither is a broken end out of order, nor is there nothing to learn"
    )
