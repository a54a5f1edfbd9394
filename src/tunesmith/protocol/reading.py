"""Read a request's bytes into a wire shape, and say in plain words what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import from_json

from tunesmith.domain.errors import InvalidRequestError
from tunesmith.protocol.wire import Wire

Shape = TypeVar("Shape", bound=Wire)
"""The wire shape that is read."""

_EXACT = 2**53
"""Below it, each whole number is a number of 64 bits without loss (IEEE 754)."""

_SHOWN = 60
"""Longest part of a value that a message repeats, in characters."""

_SECRET_KEYS = frozenset({"token", "url"})
"""Keys whose values no message repeats."""

_EXPECTED = {
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_parsing_size": "must be an integer of reasonable size",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "none_required": "must be null",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have {min_length} or more characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have {min_length} or more entries",
    "too_long": "must have at most {max_length} entries",
}
"""Our words for pydantic's error types; see https://docs.pydantic.dev/latest/errors/."""


def read_object(raw: bytes) -> dict[str, Any]:
    """Return the JSON object that `raw` holds, UTF-8 without a byte order mark.

    Raises `InvalidRequestError` that names the place. NaN and infinities, which
    JSON (RFC 8259) does not have, are refused, and so is a key that an object has
    twice: one of its values would be passed over.
    """
    if not raw:
        raise InvalidRequestError("The request has no body; send a JSON object.")
    _check_encoding(raw)
    try:
        value = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequestError(f"The body is not JSON: {error}. Correct it there.") from None
    if not isinstance(value, dict):
        raise InvalidRequestError(f"The body must be a JSON object; found {describe(value)}.")
    # Only the keys matter here, so no number is made.
    json.loads(raw, object_pairs_hook=_check_once, parse_int=str, parse_float=str)
    return {key: _whole(item) for key, item in value.items()}


def _check_once(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise InvalidRequestError(
                f"The body has the key '{shortened(key)}' twice in one object; give it once.",
                param=key,
            )
        seen.add(key)


def _whole(value: Any) -> Any:
    """Return `value` with each number such as 2.0 as 2: JSON has one kind of number only."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return value


def read_shape(shape: type[Shape], value: Mapping[str, Any]) -> Shape:
    """Return `value` as `shape`; raises `InvalidRequestError` that names the key at fault."""
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise complaint(first, known=_keys_at(shape, first["loc"][:-1])) from None


def complaint(
    error: Mapping[str, Any], *, skip: int = 0, known: Sequence[str] = ()
) -> InvalidRequestError:
    """Return one of pydantic's error entries as an error of ours.

    `param` is the dotted path to the field, without the first `skip` parts of its location;
    `known` are the keys that its place takes.
    """
    parts = [str(part) for part in error["loc"][skip:]]
    path = ".".join(parts)
    name = f"'{shortened(path)}'"
    message, code = f"{name} {_fault(error)}", None
    if error["type"] == "missing":
        message = f"{name} is missing; it is required."
    elif error["type"] == "extra_forbidden":
        nearest = get_close_matches(parts[-1], set(known) - {parts[-1]}, n=1)
        guess = f"did you mean '{nearest[0]}'? Remove" if nearest else "remove"
        message, code = (
            f"{name} is no known key; {guess} it or correct its spelling.",
            "unknown_key",
        )
    elif error["type"] == "unsupported":
        found = "its value" if _secret(parts) else describe(error["input"])
        message, code = f"{name} does not support {found}: {error['msg']}.", "unsupported_value"
    else:
        message += "." if _secret(parts) else f"; found {describe(error['input'])}."
    return InvalidRequestError(message, param=path or None, code=code)


def describe(value: object) -> str:
    """Return the JSON kind of `value` and, if it is no object or list, its shortened text."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    kind = "the string" if isinstance(value, str) else "the number"
    return f"{kind} {shortened(json.dumps(value, ensure_ascii=False))}"


def shortened(text: str) -> str:
    """Return `text` fit for a message: without control characters and not too long."""
    seen = "".join(char if char.isprintable() else "�" for char in text[:_SHOWN])
    return seen if len(text) <= _SHOWN else f"{seen}…"


def _keys_at(shape: type[Wire], path: Sequence[int | str]) -> list[str]:
    """Return the keys of the object that stands at `path` in `shape`; none where that is open."""
    for part in path:
        if isinstance(part, int):
            continue
        field = shape.model_fields.get(part)
        inner = next(_shapes_in(field.annotation), None) if field else None
        if inner is None:
            return []
        shape = inner
    return list(shape.model_fields)


def _shapes_in(annotation: Any) -> Iterator[type[Wire]]:
    """Yield the wire shapes that `annotation` is made of."""
    if isinstance(annotation, type) and issubclass(annotation, Wire):
        yield annotation
    for part in get_args(annotation):
        yield from _shapes_in(part)


def _check_encoding(raw: bytes) -> None:
    if raw.startswith(b"\xef\xbb\xbf"):
        raise InvalidRequestError(
            "The body starts with a byte order mark (byte 1); send UTF-8 without one."
        )
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequestError(
            f"The body is not UTF-8: byte {error.start + 1} is 0x{raw[error.start]:02x}. "
            "Encode it as UTF-8."
        ) from None


def _fault(error: Mapping[str, Any]) -> str:
    words = _EXPECTED.get(error["type"])
    return words.format_map(error.get("ctx", {})) if words else error["msg"]


def _secret(parts: list[str]) -> bool:
    return bool(parts) and parts[-1] in _SECRET_KEYS
