"""Domain values to table rows and back; each column has the name of its field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from sqlalchemy import RowMapping

from tunesmith.domain.values import Value

_Value = TypeVar("_Value", bound=Value)


def to_row(value: Value) -> dict[str, Any]:
    """Return the row of `value`; a field that is itself a value or a tuple becomes JSON."""
    return value.model_dump(mode="json")


def from_row(kind: type[_Value], row: RowMapping | Mapping[str, Any]) -> _Value:
    """Return the value of type `kind` that `row` holds."""
    return kind.model_validate({name: row[name] for name in kind.model_fields})
