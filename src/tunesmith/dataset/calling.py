"""Finds the calls of tools in what a model says, by how its chat template writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from tunesmith.dataset.rendering import ensure_template
from tunesmith.dataset.tokenizer import FolderTokenizer

_NAME = "probe"
_GIVEN = {"letter": "b"}
_ASKED: dict[str, Any] = {"role": "user", "content": "question"}
_SPOKEN: dict[str, Any] = {"role": "assistant", "content": "\N{SNOWMAN}"}
"""Says what no mark begins with."""
_CALLED: dict[str, Any] = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"id": "call00000", "type": "function", "function": {"name": _NAME, "arguments": _GIVEN}}
    ],
}
_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": "a tool",
        "parameters": {"type": "object", "properties": {"letter": {"type": "string"}}},
    },
}
_ARGUMENTS = ("arguments", "parameters")
"""What templates name that which a tool is given."""


@dataclass(frozen=True)
class CallMarks:
    """How a template writes calls: a JSON object, or a list of them, between two marks."""

    before: str
    """What stands before the first one; may be empty."""

    @classmethod
    def of(cls, tokenizer: FolderTokenizer) -> CallMarks | None:
        """Return the marks of the model's template; `None` where it writes no such calls."""
        ensure_template(tokenizer)
        try:
            spoken = _written([_ASKED, _SPOKEN], tokenizer)
            called = _written([_ASKED, _CALLED], tokenizer)
        except Exception:  # noqa: BLE001  a template is a program that may raise anything
            return None
        # What begins any answer, such as a thought that is empty, is no mark of a call.
        alike = takewhile(lambda pair: pair[0] == pair[1], zip(spoken, called, strict=False))
        said = called[len(list(alike)) :]
        start = said.find("{")
        if start < 0 or _read(said[start:]) is None:
            return None
        # Tokens that are no text are not in what the model is told to have said.
        before = tokenizer.backend.encode(said[:start], add_special_tokens=False).ids
        mark = str(tokenizer.backend.decode(before, skip_special_tokens=True)).strip()
        # Whether a list begins on the same line is the model's to say.
        return cls(mark.removesuffix("[").strip() or mark)


class CallReader:
    """Reads one answer as it comes."""

    def __init__(self, marks: CallMarks, names: Sequence[str]) -> None:
        """Find calls of the tools with these `names`."""
        self._mark = marks.before or "{"
        # An object may stand in any answer; only one that begins it may be a call.
        self._anywhere = bool(marks.before)
        self._names = frozenset(names)
        self._held = ""
        self._told = False

    def add(self, text: str) -> str:
        """Return what of the answer up to `text` is surely no call."""
        self._held += text
        if self._told and not self._anywhere:
            return self._tell(len(self._held))
        at = self._held.find(self._mark)
        if at >= 0 and (self._anywhere or not self._held[:at].strip()):
            return self._tell(at) if self._held[:at].strip() else ""
        if not self._anywhere:
            return self._tell(len(self._held)) if self._held.strip() else ""
        sizes = range(min(len(self._held), len(self._mark) - 1), 0, -1)
        part = next((size for size in sizes if self._held.endswith(self._mark[:size])), 0)
        return self._tell(len(self._held) - part) if self._held.strip() else ""

    def end(self) -> tuple[str, list[tuple[str, str]]]:
        """Return what is left to say, and the names of the tools that are called with their JSON.

        What looks like a call, but calls none of the tools, is said as it stands.
        """
        found = []
        rest = self._held
        while (start := rest.find("{")) >= 0:
            call = _read(rest[start:])
            if call is None or call[0] not in self._names:
                return self._held, []
            found.append((call[0], json.dumps(call[1], ensure_ascii=False)))
            rest = rest[start + call[2] :]
        return ("", found) if found else (self._held, [])

    def _tell(self, size: int) -> str:
        told, self._held = self._held[:size], self._held[size:]
        self._told = self._told or bool(told)
        return told


def _read(text: str) -> tuple[str, dict[str, Any], int] | None:
    """Return a call's name and what it is given, and the characters that it takes in `text`."""
    try:
        found, size = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return None
    given = next((_given(found[key]) for key in _ARGUMENTS if key in found), None)
    return None if given is None else (found["name"], given, size)


def _given(value: object) -> dict[str, Any] | None:
    """Return what a tool is given; some models write the object as a text, as OpenAI does."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, dict) else None


def _written(turns: list[dict[str, Any]], tokenizer: FolderTokenizer) -> str:
    return str(
        tokenizer.apply_chat_template(
            turns, tools=[_TOOL], tokenize=False, add_generation_prompt=False
        )
    )
