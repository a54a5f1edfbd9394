"""The formats of training examples: told apart by their keys, parsed to one form, `Example`.

`alpaca` is `{"instruction", "input", "output"}` (Stanford Alpaca, 2023); further
keys are passed over, since published files carry ids, scores and rendered
texts. `chat` is OpenAI's `{"messages": [{"role", "content", "name", "weight"}]}`;
there a key that is not understood is refused, since it would change the meaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

from tunesmith.dataset.rows import Problem, Row, Rule, place


class Format(StrEnum):
    """Which keys a file's rows have."""

    CHAT = "chat"
    """OpenAI's `messages`."""
    ALPACA = "alpaca"
    """`instruction`, `input`, `output`."""


_SHAPES = {
    Format.CHAT: '{"messages": [{"role": …, "content": …}, …]}',
    Format.ALPACA: '{"instruction": …, "input": …, "output": …}',
}
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_SURROGATE = re.compile("[\ud800-\udfff]")
_MESSAGE_KEYS = frozenset({"role", "content", "name", "weight"})
# What OpenAI's format has for calling tools, which is not trained on yet.
_TOOL_KEYS = frozenset(
    {"tools", "functions", "parallel_tool_calls", "function_call", "tool_calls", "tool_call_id"}
)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    """`system`, `user` or `assistant`."""
    content: str
    """What is said."""
    learn: bool
    """Whether the model is to learn to say it; only ever true of the assistant."""


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation to learn from; its last message is the assistant's."""

    line: int
    """Line of the file on which it begins, from 1."""
    messages: tuple[Message, ...]
    """The turns, in order; a system message is the first or absent."""
    element: int = 0
    """Its number in the array, from 1; 0 where the file is no array."""

    @property
    def place(self) -> str:
        """Where it stands in the file, for messages."""
        return place(self.line, self.element)

    @property
    def answered(self) -> bool:
        """Whether there is something in each answer that is to be learnt."""
        return all(message.content.strip() for message in self.messages if message.learn)


class Parser:
    """Parses the rows of one file, all of which must have the first valid row's format."""

    def __init__(self) -> None:
        """Know no format yet."""
        self.format: Format | None = None
        """The format of the first valid row, once there was one."""

    def parse(self, row: Row) -> Example | Problem:
        """Return the example in `row`, or the first thing that is wrong with it."""
        try:
            keys = _Object(row.value, "")
            found = _detect(keys, self.format)
            messages = _chat(keys) if found is Format.CHAT else _alpaca(keys)
        except _RefusedError as error:
            return Problem(
                line=row.line,
                element=row.element,
                pointer=error.pointer,
                rule=error.rule,
                message=f"{place(row.line, row.element, pointer=error.pointer)}: {error.message}",
            )
        self.format = found
        return Example(row.line, messages, row.element)


class _RefusedError(Exception):
    """A row cannot be an example."""

    def __init__(self, pointer: str, rule: Rule, *, message: str) -> None:
        super().__init__(message)
        self.pointer, self.rule, self.message = pointer, rule, message


class _Object:
    """A JSON object and its place in the row; its values are asked for by type."""

    def __init__(self, value: object, pointer: str) -> None:
        if not isinstance(value, dict):
            message = f"expected an object, found {_kind(value)}."
            raise _RefusedError(pointer, Rule.NOT_AN_OBJECT, message=message)
        self.fields = cast("dict[str, object]", value)
        self.pointer = pointer

    def found(self) -> str:
        """Return the keys that there are, for messages."""
        shown = ", ".join(ascii(key[:40]) for key in list(self.fields)[:8])
        return f"Found {shown}." if shown else "The object is empty."

    def refuse_others(self, known: Iterable[str]) -> None:
        """Refuse a key that is not among `known`; `null` says as much as no key at all."""
        for key, value in self.fields.items():
            if key in known or value is None:
                continue
            if key in _TOOL_KEYS:
                message = f"'{key}' cannot be trained on yet. Remove it."
                raise _RefusedError(self._at(key), Rule.NOT_SUPPORTED, message=message)
            message = f"the key {key[:40]!a} is unknown here. Remove it, or mend its spelling."
            raise _RefusedError(self.pointer, Rule.UNKNOWN_KEY, message=message)

    def required(self, key: str) -> object:
        """Return the value of `key`, which must be there."""
        if key not in self.fields:
            message = f"the key '{key}' is missing. {self.found()}"
            raise _RefusedError(self.pointer, Rule.MISSING_KEY, message=message)
        return self.fields[key]

    def text(self, key: str) -> str:
        """Return the text under `key`, which must be there and not be empty."""
        return self.filled(key, self.checked(key, self.required(key)))

    def filled(self, key: str, text: str) -> str:
        """Return `text`, which came from `key`, unless there is nothing in it."""
        if not text.strip():
            message = f"'{key}' is empty. Fill it in, or remove the example."
            raise _RefusedError(self._at(key), Rule.EMPTY, message=message)
        return text

    def checked(self, key: str, value: object) -> str:
        """Return `value`, which came from `key`, if it is a string of whole characters."""
        if not isinstance(value, str):
            message = f"'{key}' must be a string, not {_kind(value)}."
            raise _RefusedError(self._at(key), Rule.WRONG_TYPE, message=message)
        # Half of a surrogate pair passes JSON, but cannot be encoded for the model.
        if not value.isascii() and _SURROGATE.search(value):
            message = f"'{key}' has half of a surrogate pair (\\ud800 to \\udfff). Remove it."
            raise _RefusedError(self._at(key), Rule.NOT_UNICODE, message=message)
        return value

    def array(self, key: str, value: object) -> list[object]:
        """Return `value`, which came from `key`, if it is an array that is not empty."""
        if not isinstance(value, list):
            message = f"'{key}' must be an array, not {_kind(value)}."
            raise _RefusedError(self._at(key), Rule.WRONG_TYPE, message=message)
        if not value:
            raise _RefusedError(self._at(key), Rule.EMPTY, message=f"'{key}' is empty.")
        return value

    def _at(self, key: str) -> str:
        return f"{self.pointer}/{key}"


def _detect(row: _Object, settled: Format | None) -> Format:
    """Return the row's format, which must be `settled` where the file has one already."""
    if "messages" in row.fields:
        found = Format.CHAT
    elif "instruction" in row.fields or "output" in row.fields:
        found = Format.ALPACA
    else:
        shapes = " or ".join([_SHAPES[settled]] if settled else _SHAPES.values())
        message = f"expected {shapes}. {row.found()}"
        raise _RefusedError("", Rule.UNKNOWN_FORMAT, message=message)
    if settled not in (None, found):
        message = f"this example is {found}, but those before it are {settled}."
        raise _RefusedError(
            "", Rule.MIXED_FORMATS, message=f"{message} Put one format into a file."
        )
    return found


def _alpaca(row: _Object) -> tuple[Message, ...]:
    instruction = row.text("instruction")
    # Published files have rows without an answer; such an example is set aside, not refused.
    output = row.checked("output", row.required("output"))
    given = row.fields.get("input")
    if given is not None and row.checked("input", given).strip():
        instruction = f"{instruction}\n\n{given}"
    return (
        Message("user", instruction, learn=False),
        Message("assistant", output, learn=True),
    )


def _chat(row: _Object) -> tuple[Message, ...]:
    row.refuse_others(("messages",))
    found = row.array("messages", row.required("messages"))
    messages = tuple(_message(item, at) for at, item in enumerate(found))
    last = len(messages) - 1
    if messages[last].role != "assistant":
        message = f"the last message must be the assistant's, not the {messages[last].role}'s."
        raise _RefusedError(f"/messages/{last}/role", Rule.ROLE_ORDER, message=message)
    if not any(message.learn for message in messages):
        message = "no assistant message has weight 1, so there is nothing to learn."
        raise _RefusedError("/messages", Rule.NOTHING_LEARNT, message=message)
    return messages


def _message(value: object, at: int) -> Message:
    fields = _Object(value, f"/messages/{at}")
    role = _role(fields, at)
    fields.refuse_others(_MESSAGE_KEYS)
    if fields.fields.get("name") is not None:
        fields.checked("name", fields.fields["name"])
    learn = _weight(fields, role) == 1
    content = _content(fields)
    return Message(role, fields.filled("content", content) if learn else content, learn)


def _role(message: _Object, at: int) -> str:
    role = message.checked("role", message.required("role"))
    place = f"{message.pointer}/role"
    if role in ("tool", "function"):
        fault = f"the role '{role}' cannot be trained on yet. Remove the example."
        raise _RefusedError(place, Rule.NOT_SUPPORTED, message=fault)
    if role not in _ROLES:
        fault = f"{role[:40]!a} is no role. Use one of {', '.join(_ROLES)}."
        raise _RefusedError(place, Rule.WRONG_VALUE, message=fault)
    if _ROLES[role] == "system" and at > 0:
        fault = f"a {role} message can only be the first. Merge it into the first, or move it."
        raise _RefusedError(place, Rule.ROLE_ORDER, message=fault)
    return _ROLES[role]


def _weight(message: _Object, role: str) -> int:
    weight = message.fields.get("weight")
    place = f"{message.pointer}/weight"
    if role != "assistant":
        if weight is not None:
            fault = "only an assistant message can have a weight. Remove it."
            raise _RefusedError(place, Rule.UNKNOWN_KEY, message=fault)
        return 0
    if weight is None:
        return 1
    if isinstance(weight, bool) or weight not in (0, 1):
        fault = "'weight' must be 0 or 1."
        raise _RefusedError(place, Rule.WRONG_VALUE, message=fault)
    return 1 if weight == 1 else 0


def _content(message: _Object) -> str:
    content = message.required("content")
    if not isinstance(content, list):
        return message.checked("content", content)
    parts = message.array("content", content)
    return "".join(_part(part, f"{message.pointer}/content/{at}") for at, part in enumerate(parts))


def _part(value: object, pointer: str) -> str:
    part = _Object(value, pointer)
    kind = part.checked("type", part.required("type"))
    if kind != "text":
        message = f"parts of type {kind[:40]!a} cannot be trained on yet. Use text alone."
        raise _RefusedError(f"{pointer}/type", Rule.NOT_SUPPORTED, message=message)
    part.refuse_others(("type", "text"))
    return part.checked("text", part.required("text"))


def _kind(value: object) -> str:
    """Return what `value` is, in JSON's words."""
    if value is None:
        return "null"
    kinds = ((bool, "a boolean"), (dict, "an object"), (list, "an array"), (str, "a string"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "a number")
