"""The ShareGPT format: `conversations` of `from` and `value`, with `system` and `tools`.

`function_call` holds a call's JSON (or an array of calls), `observation` the
tool's answer, and `tools` the functions, as an array or its JSON text; so have
LLaMA-Factory's published files it. Further keys are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tunesmith.dataset.chat import refuse_bad_end
from tunesmith.dataset.examples import Message
from tunesmith.dataset.objects import Object, RefusedError, decoded
from tunesmith.dataset.problems import Rule
from tunesmith.dataset.tools import Tools

_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "function_call": "call",
    "observation": "tool",
    "tool": "tool",
}


def sharegpt_messages(row: Object, tools: Tools) -> tuple[Message, ...]:
    """Return the turns of `row`, and put what tools it defines into `tools`."""
    _define(row, tools)
    system = row.optional("system")
    found = row.array("conversations", row.required("conversations"))
    turns = tuple(
        _turn(Object(item, f"/conversations/{at}"), tools, first=at == 0 and not system)
        for at, item in enumerate(found)
    )
    refuse_bad_end(row, turns, turns="conversations", key="from")
    return (Message("system", system, learn=False), *turns) if system else turns


def _turn(turn: Object, tools: Tools, *, first: bool) -> Message:
    given = turn.string("from")
    if given not in _ROLES:
        message = f"{given[:40]!a} is no speaker. Use one of {', '.join(_ROLES)}."
        raise turn.refused(Rule.WRONG_VALUE, message, key="from")
    role = _ROLES[given]
    if role == "system" and not first:
        message = "a system message can only be the first, and once. Merge it into the first."
        raise turn.refused(Rule.ROLE_ORDER, message, key="from")
    text = turn.string("value")
    if role == "call":
        return _call(turn, text, tools=tools)
    if role == "tool":
        id, name = tools.answer_next(turn, key="from")
        return Message(role, text, learn=False, tool_call_id=id, name=name)
    return Message(role, text, learn=role == "assistant")


def _define(row: Object, tools: Tools) -> None:
    given = row.fields.get("tools")
    if isinstance(given, str):
        with _json_text(row, "tools"):
            tools.define(row, "tools", value=decoded(given) if row.optional("tools") else [])
    elif given is not None:
        tools.define(row, "tools", value=given)


def _call(turn: Object, text: str, *, tools: Tools) -> Message:
    with _json_text(turn, "value"):
        found = decoded(text)
        items = turn.array("value", found) if isinstance(found, list) else [found]
        calls = tuple(tools.call(Object(item, turn.at("value"))) for item in items)
    return Message("assistant", "", learn=True, tool_calls=calls)


@contextmanager
def _json_text(fields: Object, key: str) -> Iterator[None]:
    """Place what is wrong in the JSON text under `key` at `key`: no pointer leads into a text."""
    try:
        yield
    except ValueError as error:
        message = f"'{key}' must be JSON here, but is not ({error}). Mend it."
        raise fields.refused(Rule.INVALID_JSON, message, key=key) from None
    except RefusedError as error:
        raise fields.refused(error.rule, error.message, key=key) from None
