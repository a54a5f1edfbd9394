"""Reads JSON values by the type that is asked for, and refuses others with their place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import cast

from tunesmith.dataset.problems import Rule

_SURROGATE = re.compile("[\ud800-\udfff]")


class RefusedError(Exception):
    """A row cannot be an example."""

    def __init__(self, pointer: str, rule: Rule, *, message: str) -> None:
        """Say what is wrong at `pointer`, a JSON pointer into the row."""
        super().__init__(message)
        self.pointer, self.rule, self.message = pointer, rule, message


class Object:
    """A JSON object and its place in the row; its values are asked for by type."""

    def __init__(self, value: object, pointer: str) -> None:
        """Take `value`, which stands at `pointer`; raises `RefusedError` if it is no object."""
        if not isinstance(value, dict):
            message = f"expected an object, found {kind(value)}."
            raise RefusedError(pointer, Rule.NOT_AN_OBJECT, message=message)
        self.fields = cast("dict[str, object]", value)
        """Its keys and values."""
        self.pointer = pointer
        """Where it stands, as a JSON pointer; empty for the row itself."""

    def found(self) -> str:
        """Return the keys that there are, for messages."""
        shown = ", ".join(ascii(key[:40]) for key in list(self.fields)[:8])
        return f"Found {shown}." if shown else "The object is empty."

    def refuse_others(self, known: Iterable[str]) -> None:
        """Refuse a key that is not among `known`; `null` says as much as no key at all."""
        for key, value in self.fields.items():
            if key not in known and value is not None:
                message = f"the key {key[:40]!a} is unknown here. Remove it, or mend its spelling."
                raise self.refused(Rule.UNKNOWN_KEY, message)

    def refused(self, rule: Rule, message: str, *, key: str = "") -> RefusedError:
        """Return the error to raise for the value of `key`, or for the object itself."""
        return RefusedError(self.at(key) if key else self.pointer, rule, message=message)

    def required(self, key: str) -> object:
        """Return the value of `key`, which must be there."""
        if key not in self.fields:
            raise self.refused(Rule.MISSING_KEY, f"the key '{key}' is missing. {self.found()}")
        return self.fields[key]

    def text(self, key: str) -> str:
        """Return the text under `key`, which must be there and not be empty."""
        return self.filled(key, self.string(key))

    def string(self, key: str) -> str:
        """Return the text under `key`, which must be there and may be empty."""
        return self.checked(key, self.required(key))

    def optional(self, key: str) -> str:
        """Return the text under `key`; nothing where it is absent, null or blank."""
        value = self.fields.get(key)
        text = "" if value is None else self.checked(key, value)
        return text if text.strip() else ""

    def filled(self, key: str, text: str) -> str:
        """Return `text`, which came from `key`, unless there is nothing in it."""
        if not text.strip():
            message = f"'{key}' is empty. Fill it in, or remove the example."
            raise self.refused(Rule.EMPTY, message, key=key)
        return text

    def checked(self, key: str, value: object) -> str:
        """Return `value`, which came from `key`, if it is a string of whole characters."""
        if not isinstance(value, str):
            message = f"'{key}' must be a string, not {kind(value)}."
            raise self.refused(Rule.WRONG_TYPE, message, key=key)
        # Half of a surrogate pair passes JSON, but cannot be encoded for the model.
        if not value.isascii() and _SURROGATE.search(value):
            message = f"'{key}' has half of a surrogate pair (\\ud800 to \\udfff). Remove it."
            raise self.refused(Rule.NOT_UNICODE, message, key=key)
        return value

    def array(self, key: str, value: object) -> list[object]:
        """Return `value`, which came from `key`, if it is an array that is not empty."""
        if not isinstance(value, list):
            message = f"'{key}' must be an array, not {kind(value)}."
            raise self.refused(Rule.WRONG_TYPE, message, key=key)
        if not value:
            raise self.refused(Rule.EMPTY, f"'{key}' is empty. Fill it in, or remove it.", key=key)
        return value

    def writable(self, key: str, value: object) -> None:
        """Refuse `value`, which came from `key`, if it cannot be written for the model."""
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            message = f"'{key}' has half of a surrogate pair (\\ud800 to \\udfff). Remove it."
            raise self.refused(Rule.NOT_UNICODE, message, key=key) from None
        except RecursionError:
            message = f"'{key}' is nested too deeply. Make it flat."
            raise self.refused(Rule.NESTED_TOO_DEEPLY, message, key=key) from None

    def at(self, key: str) -> str:
        """Return the place of `key`, as a JSON pointer."""
        return f"{self.pointer}/{key}"


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
