"""Statements that all tables share: insert values, read them back, go through a list by cursor."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from sqlalchemy import Connection, Select, Table, insert, select

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
    connection: Connection, query: Select[Any], *, kind: type[_Value], missing: NotFoundError
) -> _Value:
    """Return the first value of type `kind` that `query` finds; raises `missing` for none."""
    row = connection.execute(query).mappings().first()
    if row is None:
        raise missing
    return from_row(kind, row)


def behind(
    connection: Connection,
    query: Select[Any],
    *,
    table: Table,
    after: str | None,
    order: Literal["asc", "desc"] = "desc",
) -> Select[Any]:
    """Return `query` sorted by the sequence of `table`, and begun behind the row of id `after`.

    The database goes straight to that place, however deep it lies. Raises
    `InvalidRequestError` where `after` is no row of the list.
    """
    sequence = table.c.seq
    if after is not None:
        cursor = select(sequence).where(table.c.id == after)
        if query.whereclause is not None:
            cursor = cursor.where(query.whereclause)
        place = connection.scalar(cursor)
        if place is None:
            raise rules.unknown_cursor(after)
        query = query.where(sequence > place if order == "asc" else sequence < place)
    return query.order_by(sequence.asc() if order == "asc" else sequence.desc())


def read_page(
    connection: Connection, query: Select[Any], *, kind: type[_Value], limit: int
) -> Page[_Value]:
    """Return the first `limit` values that `query` finds, and whether there are more."""
    values = read_all(connection, query.limit(limit + 1), kind=kind)
    return Page(items=tuple(values[:limit]), has_more=len(values) > limit)
