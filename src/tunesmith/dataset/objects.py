"""Reads JSON values by the type that is asked for, and notes what is wrong with their place.

Reading goes on behind a fault: a value that cannot be had is replaced by an
empty one of its type, so that all that is wrong with a row is found at once. A
row with a fault is never used.
"""

from __future__ import annotations

import json
from collections.abc import Set
from dataclasses import dataclass
from typing import cast

from tunesmith.dataset.problems import Rule

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a row."""

    pointer: str
    """Where, as a JSON pointer into the row; empty for the row itself."""
    rule: Rule
    """What it is about."""
    message: str
    """What is wrong and the mend, without the place."""


class Object:
    """A JSON object and its place in the row; its values are asked for by type."""

    __slots__ = ("faults", "fields", "pointer")

    def __init__(self, fields: dict[str, object], pointer: str, *, faults: list[Fault]) -> None:
        """Take the object `fields`, which stands at `pointer`; note what is wrong in `faults`."""
        self.fields = fields
        """Its keys and values."""
        self.pointer = pointer
        """Where it stands, as a JSON pointer; empty for the row itself."""
        self.faults = faults
        """All that was found wrong with the row, in order."""

    def found(self) -> str:
        """Return the keys that there are, for messages."""
        shown = ", ".join(ascii(key[:40]) for key in list(self.fields)[:8])
        return f"Found {shown}." if shown else "The object is empty."

    def fault(self, rule: Rule, message: str, *, key: str = "") -> None:
        """Note what is wrong with the value of `key`, or with the object itself."""
        self.faults.append(Fault(self.at(key) if key else self.pointer, rule, message))

    def refuse_others(self, known: Set[str]) -> None:
        """Note each key that is not among `known`; `null` says as much as no key at all."""
        if self.fields.keys() <= known:
            return
        for key, value in self.fields.items():
            if key not in known and value is not None:
                message = f"the key {key[:40]!a} is unknown here. Remove it, or mend its spelling."
                self.fault(Rule.UNKNOWN_KEY, message)

    def has(self, key: str) -> bool:
        """Tell whether `key` is there and not null."""
        return self.fields.get(key) is not None

    def string(self, key: str) -> str:
        """Return the text under `key`, which must be there and may be empty."""
        return self._string(key) or ""

    def text(self, key: str) -> str:
        """Return the text under `key`, which must be there and not be empty."""
        text = self._string(key)
        if text is not None and (not text or text.isspace()):
            self.empty(key)
        return text or ""

    def optional(self, key: str) -> str:
        """Return the text under `key`; nothing where it is absent, null or blank."""
        value = self.fields.get(key)
        if value is None:
            return ""
        text = self.checked(key, value)
        return text if text.strip() else ""

    def checked(self, key: str, value: object) -> str:
        """Return `value`, which came from `key`, if it is a string of whole characters."""
        return self._checked(key, value) or ""

    def empty(self, key: str) -> None:
        """Note that there is nothing under `key`."""
        self.fault(Rule.EMPTY, f"'{key}' is empty. Fill it in, or remove the example.", key=key)

    def array(self, key: str) -> list[object]:
        """Return the array under `key`, which must be there and not be empty."""
        value = self.fields.get(key, _ABSENT)
        if value is _ABSENT:
            self._missing(key)
            return []
        found = self.listed(key, value)
        if value == []:
            self.empty(key)
        return found

    def listed(self, key: str, value: object) -> list[object]:
        """Return `value`, which came from `key`, if it is an array; it may be empty."""
        if isinstance(value, list):
            return value
        self.fault(Rule.WRONG_TYPE, f"'{key}' must be an array, not {kind(value)}.", key=key)
        return []

    def member(self, key: str) -> Object | None:
        """Return the object under `key`, which must be there."""
        value = self.fields.get(key, _ABSENT)
        if value is _ABSENT:
            self._missing(key)
            return None
        return self.inside(key, value)

    def inside(self, key: str, value: object) -> Object | None:
        """Return `value`, which came from `key`, if it is an object."""
        return as_object(value, self.at(key), faults=self.faults)

    def given(self, key: str) -> object:
        """Return the value of `key`, whatever it is, which must be there; else `None`."""
        if key not in self.fields:
            self._missing(key)
        return self.fields.get(key)

    def writable(self, key: str, value: object) -> bool:
        """Tell whether `value`, which came from `key`, can be written for the model; note if not.

        A template gets it as it is, so that no text in it may be half a character.
        """
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            self._half(key)
        except RecursionError:
            message = f"'{key}' is nested too deeply. Make it flat."
            self.fault(Rule.NESTED_TOO_DEEPLY, message, key=key)
        else:
            return True
        return False

    def at(self, key: str) -> str:
        """Return the place of `key`, as a JSON pointer."""
        return f"{self.pointer}/{key}"

    def _string(self, key: str) -> str | None:
        value = self.fields.get(key, _ABSENT)
        if value is _ABSENT:
            self._missing(key)
            return None
        return self._checked(key, value)

    def _checked(self, key: str, value: object) -> str | None:
        if not isinstance(value, str):
            self.fault(Rule.WRONG_TYPE, f"'{key}' must be a string, not {kind(value)}.", key=key)
            return None
        if not whole(value):
            self._half(key)
            return None
        return value

    def _missing(self, key: str) -> None:
        self.fault(Rule.MISSING_KEY, f"the key '{key}' is missing. {self.found()}")

    def _half(self, key: str) -> None:
        # Half of a surrogate pair passes JSON, but cannot be encoded for the model.
        message = f"'{key}' has half of a surrogate pair (\\ud800 to \\udfff). Remove it."
        self.fault(Rule.NOT_UNICODE, message, key=key)


def as_object(value: object, pointer: str, *, faults: list[Fault]) -> Object | None:
    """Return `value`, which stands at `pointer`, if it is an object; else note it in `faults`."""
    if isinstance(value, dict):
        return Object(cast("dict[str, object]", value), pointer, faults=faults)
    message = f"expected an object, found {kind(value)}."
    faults.append(Fault(pointer, Rule.NOT_AN_OBJECT, message))
    return None


def whole(text: str) -> bool:
    """Tell whether `text` has whole characters alone, no half of a surrogate pair."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def decoded(text: str) -> object:
    """Return the JSON value in `text`; raises `ValueError` where it is none, or beyond reason."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def kind(value: object) -> str:
    """Return what `value` is, in JSON's words."""
    if value is None:
        return "null"
    kinds = ((bool, "a boolean"), (dict, "an object"), (list, "an array"), (str, "a string"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "a number")


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
