"""OpenAI's chat format, with tools; a key that is not understood is refused.

The deprecated `functions`, `function_call` and role `function` are translated
to `tools`, `tool_calls` and role `tool`.
"""

from __future__ import annotations

from tunesmith.dataset.examples import Message, ToolCall
from tunesmith.dataset.objects import Object, kind
from tunesmith.dataset.problems import Rule
from tunesmith.dataset.tools import Tools

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_KEYS = frozenset({"role", "content", "name", "weight"})
_KEYS_OF = {
    "assistant": _KEYS | {"tool_calls", "function_call"},
    "tool": _KEYS | {"tool_call_id"},
}


def chat_messages(row: Object, tools: Tools) -> tuple[Message, ...]:
    """Return the turns of `row`, and put what tools it defines into `tools`."""
    row.refuse_others(("messages", "tools", "functions", "parallel_tool_calls"))
    _define(row, tools)
    found = row.array("messages", row.required("messages"))
    messages = tuple(_message(item, at, tools=tools) for at, item in enumerate(found))
    refuse_bad_end(row, messages, turns="messages", key="role")
    if not any(message.learn for message in messages):
        message = "no assistant message has weight 1, so there is nothing to learn."
        raise row.refused(Rule.NOTHING_LEARNT, message, key="messages")
    return messages


def refuse_bad_end(row: Object, messages: tuple[Message, ...], *, turns: str, key: str) -> None:
    """Refuse `messages`, the `turns` of `row`, if the last is not the assistant's.

    `key` is what a turn names its role by.
    """
    last = len(messages) - 1
    if messages[last].role != "assistant":
        message = f"the last message must be the assistant's, not the {messages[last].role}'s."
        raise row.refused(Rule.ROLE_ORDER, message, key=f"{turns}/{last}/{key}")


def _define(row: Object, tools: Tools) -> None:
    parallel = row.fields.get("parallel_tool_calls")
    if not isinstance(parallel, bool | None):
        message = f"'parallel_tool_calls' must be true or false, not {kind(parallel)}."
        raise row.refused(Rule.WRONG_TYPE, message, key="parallel_tool_calls")
    given = [key for key in ("tools", "functions") if row.fields.get(key) is not None]
    if len(given) > 1:
        message = "'functions' is the older name of 'tools'. Give one of the two."
        raise row.refused(Rule.WRONG_VALUE, message, key="functions")
    for key in given:
        tools.define(row, key, value=row.fields[key])


def _message(value: object, at: int, *, tools: Tools) -> Message:
    fields = Object(value, f"/messages/{at}")
    role = _role(fields, at)
    fields.refuse_others(_KEYS_OF.get(role, _KEYS))
    if fields.fields.get("name") is not None:
        fields.string("name")
    learn = _weight(fields, role) == 1
    if role == "tool":
        content = _content(fields)
        id, name = _answered(fields, tools)
        return Message(role, content, learn, tool_call_id=id, name=name)
    calls = _calls(fields, tools) if role == "assistant" else ()
    if calls and fields.fields.get("content") is None:
        return Message(role, "", learn, calls)
    content = _content(fields)
    if learn and not calls:
        fields.filled("content", content)
    return Message(role, content, learn, calls)


def _role(message: Object, at: int) -> str:
    role = message.string("role")
    if role not in _ROLES:
        fault = f"{role[:40]!a} is no role. Use one of {', '.join(_ROLES)}."
        raise message.refused(Rule.WRONG_VALUE, fault, key="role")
    if _ROLES[role] == "system" and at > 0:
        fault = f"a {role} message can only be the first. Merge it into the first, or move it."
        raise message.refused(Rule.ROLE_ORDER, fault, key="role")
    return _ROLES[role]


def _weight(message: Object, role: str) -> int:
    weight = message.fields.get("weight")
    if role != "assistant":
        if weight is not None:
            fault = "only an assistant message can have a weight. Remove it."
            raise message.refused(Rule.UNKNOWN_KEY, fault, key="weight")
        return 0
    if weight is None:
        return 1
    if isinstance(weight, bool) or weight not in (0, 1):
        raise message.refused(Rule.WRONG_VALUE, "'weight' must be 0 or 1.", key="weight")
    return 1 if weight == 1 else 0


def _calls(message: Object, tools: Tools) -> tuple[ToolCall, ...]:
    older = message.fields.get("function_call")
    newer = message.fields.get("tool_calls")
    if older is not None and newer is not None:
        fault = "'function_call' is the older name of 'tool_calls'. Give one of the two."
        raise message.refused(Rule.WRONG_VALUE, fault, key="function_call")
    if older is not None:
        return (tools.call(Object(older, message.at("function_call"))),)
    if newer is None:
        return ()
    found = message.array("tool_calls", newer)
    return tuple(
        _call(Object(item, message.at(f"tool_calls/{at}")), tools) for at, item in enumerate(found)
    )


def _call(fields: Object, tools: Tools) -> ToolCall:
    # OpenAI numbers the calls of a streamed answer by `index`; published files keep it.
    fields.refuse_others(("id", "type", "function", "index"))
    type = fields.string("type")
    if type != "function":
        message = f"calls of type {type[:40]!a} are unknown. Use 'function'."
        raise fields.refused(Rule.WRONG_VALUE, message, key="type")
    id = fields.text("id")
    return tools.call(Object(fields.required("function"), fields.at("function")), id=id)


def _answered(message: Object, tools: Tools) -> tuple[str, str]:
    if message.fields["role"] == "function":
        return tools.answer_next(message, key="name", name=message.text("name"))
    id = message.text("tool_call_id")
    return id, tools.answer(message, id=id)


def _content(message: Object) -> str:
    content = message.required("content")
    if not isinstance(content, list):
        return message.checked("content", content)
    parts = message.array("content", content)
    return "".join(_part(part, message.at(f"content/{at}")) for at, part in enumerate(parts))


def _part(value: object, pointer: str) -> str:
    part = Object(value, pointer)
    type = part.string("type")
    if type != "text":
        message = f"parts of type {type[:40]!a} cannot be trained on yet. Use text alone."
        raise part.refused(Rule.NOT_SUPPORTED, message, key="type")
    part.refuse_others(("type", "text"))
    return part.string("text")
