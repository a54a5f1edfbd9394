"""What all domain values have in common: they are frozen and know each of their fields."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

Item = TypeVar("Item")
"""What a page is of."""


class Value(BaseModel):
    """A frozen value; an unknown field is refused, so that a misspelt one cannot be lost."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True
    )


class Page(Value, Generic[Item]):
    """One page of a cursor-paged list."""

    items: tuple[Item, ...]
    """The rows of this page, in the order asked for."""
    has_more: bool
    """Whether rows follow behind the last of these."""
