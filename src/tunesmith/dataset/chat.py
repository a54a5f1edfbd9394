"""OpenAI's chat format, with tools; a key that is not understood is refused.

The deprecated `functions`, `function_call` and role `function` are translated
to `tools`, `tool_calls` and role `tool`.
"""

from __future__ import annotations

from tunesmith.dataset.examples import Message, ToolCall
from tunesmith.dataset.objects import Object, kind, whole
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
_ROW_KEYS = frozenset({"messages", "tools", "functions", "parallel_tool_calls"})
_KEYS = frozenset({"role", "content", "name", "weight"})
_KEYS_OF = {
    "system": _KEYS,
    "user": _KEYS,
    "assistant": _KEYS | {"tool_calls", "function_call"},
    "tool": _KEYS | {"tool_call_id"},
}
_ALL_KEYS = frozenset().union(*_KEYS_OF.values())
_CALL_KEYS = frozenset({"id", "type", "function", "index"})
_PART_KEYS = frozenset({"type", "text"})
_BROKEN = Message("", "", learn=False)


def chat_messages(row: Object, tools: Tools) -> tuple[Message, ...]:
    """Return the turns of `row`, and put what tools it defines into `tools`."""
    messages = turns(row, tools)
    refuse_bad_end(row, messages, turns="messages", key="role")
    if not row.faults and not any(message.learn for message in messages):
        message = "no assistant message has weight 1, so there is nothing to learn."
        row.fault(Rule.NOTHING_LEARNT, message, key="messages")
    return messages


def turns(row: Object, tools: Tools) -> tuple[Message, ...]:
    """Return the `messages` of `row`, whoever has the last, and note its tools in `tools`."""
    row.refuse_others(_ROW_KEYS)
    _define(row, tools)
    found = enumerate(row.array("messages"))
    return tuple([_plain(item) or _message(row, item, at=at, tools=tools) for at, item in found])


def answer(row: Object, key: str, *, tools: Tools) -> Message:
    """Return the one message of the assistant in the array under `key`, with what it calls."""
    found = row.array(key)
    if len(found) > 1:
        message = f"'{key}' must have one message, not {len(found)}. Train on one answer at once."
        row.fault(Rule.WRONG_VALUE, message, key=key)
    fields = row.inside(f"{key}/0", found[0]) if found else None
    if fields is None:
        return _BROKEN
    role = _role(fields)
    if role not in ("", "assistant"):
        message = f"the answer must be the assistant's, not the {role}'s."
        fields.fault(Rule.ROLE_ORDER, message, key="role")
        return _BROKEN
    return _said(fields, role or "assistant", tools=tools)


def refuse_bad_end(row: Object, messages: tuple[Message, ...], *, turns: str, key: str) -> None:
    """Note it if the last of `messages`, the `turns` of `row`, is not the assistant's.

    `key` is what a turn names its role by.
    """
    if messages and messages[-1].role not in ("", "assistant"):
        message = f"the last message must be the assistant's, not the {messages[-1].role}'s."
        row.fault(Rule.ROLE_ORDER, message, key=f"{turns}/{len(messages) - 1}/{key}")


def _define(row: Object, tools: Tools) -> None:
    parallel = row.fields.get("parallel_tool_calls")
    if not isinstance(parallel, bool | None):
        message = f"'parallel_tool_calls' must be true or false, not {kind(parallel)}."
        row.fault(Rule.WRONG_TYPE, message, key="parallel_tool_calls")
    given = [key for key in ("tools", "functions") if row.has(key)]
    if len(given) > 1:
        message = "'functions' is the older name of 'tools'. Give one of the two."
        row.fault(Rule.WRONG_VALUE, message, key="functions")
    for key in given[:1]:
        tools.define(row, key, value=row.fields[key])


def _plain(value: object) -> Message | None:
    """Return the message in `value` if it is as most are: a user's or an answer, text alone.

    It saves two thirds of the time that the careful reading of such a message takes.
    """
    if not isinstance(value, dict) or len(value) != 2:
        return None
    role, content = value.get("role"), value.get("content")
    if not isinstance(content, str) or not content or content.isspace() or not whole(content):
        return None
    if role == "user":
        return Message("user", content, learn=False)
    return Message("assistant", content, learn=True) if role == "assistant" else None


def _message(row: Object, value: object, *, at: int, tools: Tools) -> Message:
    fields = row.inside(f"messages/{at}", value)
    if fields is None:
        return _BROKEN
    role = _role(fields)
    if role == "system" and at > 0:
        given = fields.fields["role"]
        fault = f"a {given} message can only be the first. Merge it into the first, or move it."
        fields.fault(Rule.ROLE_ORDER, fault, key="role")
    return _said(fields, role, tools=tools)


def _said(fields: Object, role: str, *, tools: Tools) -> Message:
    fields.refuse_others(_KEYS_OF.get(role, _ALL_KEYS))
    if fields.has("name"):
        fields.string("name")
    learn = _weight(fields, role)
    if role == "tool":
        id, name = _answered(fields, tools)
        return Message(role, _content(fields), learn, tool_call_id=id, name=name)
    if role == "assistant" and (fields.has("tool_calls") or fields.has("function_call")):
        calls = _calls(fields, tools)
        return Message(role, _content(fields) if fields.has("content") else "", learn, calls)
    before = len(fields.faults)
    content = _content(fields)
    if learn and not content.strip() and len(fields.faults) == before:
        fields.empty("content")
    return Message(role, content, learn)


def _role(message: Object) -> str:
    """Return the role in the newer words; nothing where it is none."""
    role = message.string("role")
    known = _ROLES.get(role, "")
    if not known and isinstance(message.fields.get("role"), str):
        fault = f"{role[:40]!a} is no role. Use one of {', '.join(_ROLES)}."
        message.fault(Rule.WRONG_VALUE, fault, key="role")
    return known


def _weight(message: Object, role: str) -> bool:
    """Tell whether the message is learnt."""
    weight = message.fields.get("weight")
    if weight is None:
        return role == "assistant"
    if role not in ("", "assistant"):
        fault = "only an assistant message can have a weight. Remove it."
        message.fault(Rule.UNKNOWN_KEY, fault, key="weight")
        return False
    if isinstance(weight, bool) or weight not in (0, 1):
        message.fault(Rule.WRONG_VALUE, "'weight' must be 0 or 1.", key="weight")
    return weight == 1


def _calls(message: Object, tools: Tools) -> tuple[ToolCall, ...]:
    if message.has("function_call"):
        if message.has("tool_calls"):
            fault = "'function_call' is the older name of 'tool_calls'. Give one of the two."
            message.fault(Rule.WRONG_VALUE, fault, key="function_call")
        function = message.member("function_call")
        found = [tools.call(function) if function else None]
    else:
        listed = enumerate(message.array("tool_calls"))
        found = [_call(message.inside(f"tool_calls/{at}", item), tools) for at, item in listed]
    calls = tuple(call for call in found if call)
    if len(calls) < max(len(found), 1):
        tools.doubt()
    return calls


def _call(fields: Object | None, tools: Tools) -> ToolCall | None:
    if fields is None:
        return None
    # OpenAI numbers the calls of a streamed answer by `index`; published files keep it.
    fields.refuse_others(_CALL_KEYS)
    type = fields.string("type")
    if type and type != "function":
        message = f"calls of type {type[:40]!a} are unknown. Use 'function'."
        fields.fault(Rule.WRONG_VALUE, message, key="type")
    id = fields.text("id")
    function = fields.member("function")
    call = tools.call(function, id=id) if function else None
    return call if id else None


def _answered(message: Object, tools: Tools) -> tuple[str, str]:
    if message.fields["role"] == "function":
        return tools.answer_next(message, key="name", name=message.text("name"))
    id = message.text("tool_call_id")
    return id, tools.answer(message, id=id)


def _content(message: Object) -> str:
    content = message.fields.get("content")
    if not isinstance(content, list):
        return message.string("content")
    parts = enumerate(message.array("content"))
    return "".join(_part(message.inside(f"content/{at}", part)) for at, part in parts)


def _part(part: Object | None) -> str:
    type = part.string("type") if part else ""
    if part is None or not type:
        return ""
    if type != "text":
        message = f"parts of type {type[:40]!a} cannot be trained on yet. Use text alone."
        part.fault(Rule.NOT_SUPPORTED, message, key="type")
        return ""
    part.refuse_others(_PART_KEYS)
    return part.string("text")
