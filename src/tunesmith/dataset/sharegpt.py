"""The ShareGPT format: `conversations` of `from` and `value`, with `system` and `tools`.

`function_call` holds a call's JSON (or an array of calls), `observation` the
tool's answer, and `tools` the functions, as an array or its JSON text; so have
LLaMA-Factory's published files it. Further keys are passed over.
"""

from __future__ import annotations

from tunesmith.dataset.chat import refuse_bad_end
from tunesmith.dataset.examples import Message, ToolCall
from tunesmith.dataset.objects import Object, decoded
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
_BROKEN = Message("", "", learn=False)


def sharegpt_messages(row: Object, tools: Tools) -> tuple[Message, ...]:
    """Return the turns of `row`, and put what tools it defines into `tools`."""
    system = system_message(row)
    turns = sharegpt_turns(row, tools, first=not system)
    refuse_bad_end(row, turns, turns="conversations", key="from")
    return (*system, *turns)


def system_message(row: Object) -> tuple[Message, ...]:
    """Return what `row` has under `system`, if anything, as the first message."""
    system = row.optional("system")
    return (Message("system", system, learn=False),) if system else ()


def sharegpt_turns(row: Object, tools: Tools, *, first: bool) -> tuple[Message, ...]:
    """Return the `conversations` of `row`, whoever has the last, and note its tools in `tools`.

    `first` tells that nothing stands before them, so that they may begin with the system.
    """
    _define(row, tools)
    found = enumerate(row.array("conversations"))
    return tuple(
        [
            sharegpt_turn(row.inside(f"conversations/{at}", item), tools, first=first and at == 0)
            for at, item in found
        ]
    )


def sharegpt_turn(turn: Object | None, tools: Tools, *, first: bool) -> Message:
    """Return one turn; only the `first` may be the system's."""
    given = turn.string("from") if turn else ""
    if turn is None:
        return _BROKEN
    role = _ROLES.get(given, "")
    if not role and isinstance(turn.fields.get("from"), str):
        message = f"{given[:40]!a} is no speaker. Use one of {', '.join(_ROLES)}."
        turn.fault(Rule.WRONG_VALUE, message, key="from")
    if role == "system" and not first:
        message = "a system message can only be the first, and once. Merge it into the first."
        turn.fault(Rule.ROLE_ORDER, message, key="from")
    text = turn.string("value")
    if role == "call":
        calls = _calls(turn, tools, text=text)
        return Message("assistant", "", learn=True, tool_calls=calls)
    if role == "tool":
        id, name = tools.answer_next(turn, key="from")
        return Message(role, text, learn=False, tool_call_id=id, name=name)
    return Message(role, text, learn=role == "assistant")


def _define(row: Object, tools: Tools) -> None:
    given = row.fields.get("tools")
    if isinstance(given, str):
        inside = _json_text(row, "tools", text=given if given.strip() else "[]")
        if inside is not None:
            tools.define(inside, "tools", value=inside.fields["tools"])
            _adopt(row, inside, key="tools")
    elif given is not None:
        tools.define(row, "tools", value=given)


def _calls(turn: Object, tools: Tools, *, text: str) -> tuple[ToolCall, ...]:
    given = isinstance(turn.fields.get("value"), str)
    inside = _json_text(turn, "value", text=text) if given else None
    found = inside.fields["value"] if inside else []
    items = found if isinstance(found, list) else [found]
    if inside is not None and not items:
        inside.empty("value")
    functions = [inside.inside("value", item) for item in items] if inside else []
    calls = tuple(tools.call(function) for function in functions if function)
    if len(calls) < max(len(items), 1):
        tools.doubt()
    if inside is not None:
        _adopt(turn, inside, key="value")
    return calls


def _json_text(fields: Object, key: str, *, text: str) -> Object | None:
    """Return an object of what the JSON `text` under `key` holds, with faults of its own."""
    try:
        found = decoded(text)
    except ValueError as error:
        message = f"'{key}' must be JSON here, but is not ({error}). Mend it."
        fields.fault(Rule.INVALID_JSON, message, key=key)
        return None
    return Object({key: found}, "", faults=[])


def _adopt(fields: Object, inside: Object, *, key: str) -> None:
    """Place what is wrong in the JSON text under `key` at `key`: no pointer leads into a text."""
    for fault in inside.faults:
        fields.fault(fault.rule, fault.message, key=key)
