"""Statements that all tables share: insert values, read them back, go through a list by cursor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, Table, insert, select

from tunesmith.domain.errors import NotFoundError
from tunesmith.domain.values import Page, Value
from tunesmith.store import rules
from tunesmith.store.rows import from_row, to_row

_Value = TypeVar("_Value", bound=Value)


def insert_values(connection: Connection, table: Table, *values: Value) -> None:
    """Insert `values`, of the domain type that `table` keeps, in their order."""
    if values:
        connection.execute(insert(table), [to_row(value) for value in values])


def read_all(connection: Connection, query: Select[Any], *, kind: type[_Value]) -> list[_Value]:
    """Return the values of type `kind` that `query` finds."""
    return [from_row(kind, row) for row in connection.execute(query).mappings()]


def read_one(
    connection: Connection,
    query: Select[Any],
    *,
    kind: type[_Value],
    missing: NotFoundError,
    given: Mapping[str, Any] | None = None,
) -> _Value:
    """Return the first value of type `kind` that `query` finds; raises `missing` for none.

    `given` are the values that `query` takes by name.
    """
    row = connection.execute(query, given).mappings().first()
    if row is None:
        raise missing
    return from_row(kind, row)


def place_of(
    connection: Connection, table: Table, *, after: str | None, seen: ColumnElement[bool]
) -> int | None:
    """Return the place of the row of id `after` among those of `table` that are `seen`.

    Without an `after` it is none. Raises `InvalidRequestError` where `after` is none of them.
    """
    if after is None:
        return None
    place = connection.scalar(select(table.c.seq).where(table.c.id == after, seen))
    if place is None:
        raise rules.unknown_cursor(after)
    return int(place)


def behind(
    query: Select[Any],
    sequence: ColumnElement[Any],
    *,
    place: int | None,
    order: Literal["asc", "desc"] = "desc",
) -> Select[Any]:
    """Return `query` sorted by `sequence`, and begun behind `place` where there is one.

    The database goes straight to that place, however deep it lies.
    """
    if place is not None:
        query = query.where(sequence > place if order == "asc" else sequence < place)
    return query.order_by(sequence.asc() if order == "asc" else sequence.desc())


def read_page(
    connection: Connection, query: Select[Any], *, kind: type[_Value], limit: int
) -> Page[_Value]:
    """Return the first `limit` values that `query` finds, and whether there are more."""
    values = read_all(connection, query.limit(limit + 1), kind=kind)
    return Page(items=tuple(values[:limit]), has_more=len(values) > limit)
