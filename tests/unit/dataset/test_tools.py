from __future__ import annotations

import json
from typing import Any

import pytest

from tunesmith.dataset.examples import AnyExample, Example, Message, ToolCall
from tunesmith.dataset.formats import Parser
from tunesmith.dataset.problems import Problem, Rule
from tunesmith.dataset.rows import Row
from tunesmith.domain.spec import Method

FUNCTION = {"name": "weather", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": FUNCTION}
USER = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a"}
CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
}
CALLS = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "sunny"}


def chat(*turns: Any, **keys: Any) -> dict[str, Any]:
    return {"messages": list(turns), "tools": [TOOL]} | keys


def sharegpt(*turns: tuple[str, str], **keys: Any) -> dict[str, Any]:
    listed = [{"from": speaker, "value": text} for speaker, text in turns]
    return {"conversations": listed} | keys


def parse(value: object) -> AnyExample | tuple[Problem, ...]:
    return Parser(Method.SUPERVISED).parse(Row(3, value))


def example(value: object) -> Example:
    found = parse(value)
    assert isinstance(found, Example), found
    return found


def problem(value: object) -> Problem:
    found = parse(value)
    assert isinstance(found, tuple), found
    assert len(found) == 1, found
    return found[0]


def test_a_call_is_learnt_like_an_answer_and_the_tools_message_answers_it() -> None:
    found = example(chat(USER, CALLS, RESULT, ANSWER, parallel_tool_calls=False))
    call = ToolCall("c1", "weather", {"city": "Rome"})
    assert found.messages == (
        Message("user", "q", learn=False),
        Message("assistant", "", learn=True, tool_calls=(call,)),
        Message("tool", "sunny", learn=False, tool_call_id="c1", name="weather"),
        Message("assistant", "a", learn=True),
    )
    assert found.tools == (TOOL,)
    assert found.answered
    assert not example(chat(USER, CALLS | {"weight": 0}, RESULT, ANSWER)).messages[1].learn


def test_a_conversation_may_end_with_a_call() -> None:
    assert example(chat(USER, CALLS)).messages[-1].tool_calls


def test_arguments_that_are_no_json_object_are_kept_as_given() -> None:
    for text in ("Rome", "[1]", '{"a": NaN}', "{" * 9):
        call = CALL | {"function": {"name": "weather", "arguments": text}}
        [found] = example(chat(USER, CALLS | {"tool_calls": [call]})).messages[-1].tool_calls
        assert found.arguments == text


def test_deprecated_functions_become_tools() -> None:
    calls = {"role": "assistant", "function_call": {"name": "weather", "arguments": "{}"}}
    result = {"role": "function", "name": "weather", "content": "sunny"}
    row = {"messages": [USER, calls, result, ANSWER], "functions": [FUNCTION]}
    found = example(row)
    assert found.tools == (TOOL,)
    [call] = found.messages[1].tool_calls
    assert (call.name, call.arguments) == ("weather", {})
    answer = found.messages[2]
    assert (answer.role, answer.name, answer.tool_call_id) == ("tool", "weather", call.id)


def test_sharegpts_tools_calls_and_observations_are_the_same_as_chats() -> None:
    call = json.dumps({"name": "weather", "arguments": {"city": "Rome"}})
    turns = [("human", "q"), ("function_call", call), ("observation", "sunny"), ("gpt", "a")]
    found = example(sharegpt(*turns, tools=json.dumps([FUNCTION]), system="s", id=7))
    assert found == example(sharegpt(*turns, tools=[TOOL], system="s"))
    assert found.tools == (TOOL,)
    assert [turn.role for turn in found.messages] == [
        "system", "user", "assistant", "tool", "assistant",
    ]  # fmt: skip
    [made] = found.messages[2].tool_calls
    assert made.arguments == {"city": "Rome"}
    assert found.messages[3].tool_call_id == made.id
    assert [turn.learn for turn in found.messages] == [False, False, True, False, True]


def test_sharegpt_calls_several_tools_by_an_array() -> None:
    calls = json.dumps([{"name": "weather", "arguments": {"n": n}} for n in (1, 2)])
    found = example(
        sharegpt(
            ("user", "q"),
            ("function_call", calls),
            ("tool", "one"),
            ("tool", "two"),
            ("assistant", "a"),
            tools=[FUNCTION],
        )
    )
    first, second = found.messages[1].tool_calls
    assert [turn.tool_call_id for turn in found.messages[2:4]] == [first.id, second.id]
    assert first.id != second.id


def other(name: str) -> dict[str, Any]:
    return CALLS | {"tool_calls": [CALL | {"function": {"name": name, "arguments": "{}"}}]}


OLD = {"function_call": {"name": "weather", "arguments": "{}"}}
ASKED = ("human", "q")
SAID = ("gpt", "a")
CALLED = ("function_call", '{"name": "weather", "arguments": {}}')


@pytest.mark.parametrize(
    ("value", "rule", "pointer", "words"),
    [
        (chat(USER, ANSWER, tools={}), Rule.WRONG_TYPE, "/tools", "array"),
        (chat(USER, ANSWER, tools=["x"]), Rule.NOT_AN_OBJECT, "/tools/0", "a string"),
        (chat(USER, ANSWER, tools=[TOOL, TOOL]), Rule.WRONG_VALUE, "/tools/1/function/name", "twi"),
        (chat(USER, ANSWER, tools=[{"type": "x"}]), Rule.WRONG_VALUE, "/tools/0/type", "'x'"),
        (chat(USER, ANSWER, functions=[FUNCTION]), Rule.WRONG_VALUE, "/functions", "one of"),
        (chat(USER, ANSWER, tools=[{"\ud800": 1}]), Rule.NOT_UNICODE, "/tools", "surrogate"),
        (
            chat(USER, ANSWER, parallel_tool_calls=1),
            Rule.WRONG_TYPE,
            "/parallel_tool_calls",
            "true or false",
        ),
        (
            chat(USER, other("storm")),
            Rule.UNDEFINED_TOOL,
            "/messages/1/tool_calls/0/function/name",
            "'storm' is not defined",
        ),
        (
            {"messages": [USER, CALLS]},
            Rule.UNDEFINED_TOOL,
            "/messages/1/tool_calls/0/function/name",
            "Define it",
        ),
        (
            chat(USER, CALLS | {"tool_calls": [CALL, CALL]}),
            Rule.WRONG_VALUE,
            "/messages/1/tool_calls/1/function",
            "open already",
        ),
        (chat(USER, CALLS | OLD), Rule.WRONG_VALUE, "/messages/1/function_call", "one of the two"),
        (chat(USER, CALLS | {"tool_calls": []}), Rule.EMPTY, "/messages/1/tool_calls", "empty"),
        (chat(USER, RESULT, ANSWER), Rule.NO_OPEN_CALL, "/messages/1/tool_call_id", "'c1'"),
        (
            chat(USER, CALLS, RESULT, RESULT, ANSWER),
            Rule.NO_OPEN_CALL,
            "/messages/3/tool_call_id",
            "waits",
        ),
        (
            chat(USER, {"role": "function", "name": "weather", "content": "x"}, ANSWER),
            Rule.NO_OPEN_CALL,
            "/messages/1/name",
            "'weather'",
        ),
        (chat(USER, CALLS, RESULT), Rule.ROLE_ORDER, "/messages/2/role", "the tool's"),
        (
            chat(USER | {"tool_calls": [CALL]}, ANSWER),
            Rule.UNKNOWN_KEY,
            "/messages/0",
            "'tool_calls'",
        ),
        (sharegpt(ASKED, SAID, tools="{"), Rule.INVALID_JSON, "/tools", "must be JSON"),
        (sharegpt(ASKED, SAID, tools="[7]"), Rule.NOT_AN_OBJECT, "/tools", "a number"),
        (sharegpt(ASKED, CALLED), Rule.UNDEFINED_TOOL, "/conversations/1/value", "'weather'"),
        (
            sharegpt(ASKED, ("function_call", "x")),
            Rule.INVALID_JSON,
            "/conversations/1/value",
            "JSON",
        ),
        (
            sharegpt(ASKED, ("observation", "x"), SAID),
            Rule.NO_OPEN_CALL,
            "/conversations/1/from",
            "waits",
        ),
        (sharegpt(SAID, ASKED), Rule.ROLE_ORDER, "/conversations/1/from", "the user's"),
        (sharegpt(ASKED, ("bot", "x")), Rule.WRONG_VALUE, "/conversations/1/from", "'bot'"),
        (
            sharegpt(("system", "t"), ASKED, SAID, system="s"),
            Rule.ROLE_ORDER,
            "/conversations/0/from",
            "once",
        ),
    ],
)
def test_a_bad_tool_or_call_is_met_with_its_place_and_mend(
    value: object, rule: Rule, pointer: str, words: str
) -> None:
    found = problem(value)
    assert (found.line, found.rule, found.pointer) == (3, rule, pointer)
    assert found.message.startswith(f"Line 3, {pointer}: ")
    assert words in found.message


def test_each_broken_call_is_told_and_what_depends_on_a_broken_one_is_not() -> None:
    calls = [CALL | {"id": ""}, CALL | {"function": 7}, other("storm")["tool_calls"][0]]
    found = parse(
        chat(USER, CALLS | {"tool_calls": calls}, RESULT | {"tool_call_id": "c9"}, ANSWER)
    )
    assert isinstance(found, tuple)
    assert [(problem.rule, problem.pointer) for problem in found] == [
        (Rule.EMPTY, "/messages/1/tool_calls/0/id"),
        (Rule.NOT_AN_OBJECT, "/messages/1/tool_calls/1/function"),
        (Rule.UNDEFINED_TOOL, "/messages/1/tool_calls/2/function/name"),
    ]
    undefined = parse(chat(USER, CALLS, RESULT, ANSWER, tools=["x"]))
    assert isinstance(undefined, tuple)
    assert [problem.pointer for problem in undefined] == ["/tools/0"]
