"""Brings all records of one database into another, of SQLite or PostgreSQL, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy import Connection, RowMapping, Table, delete, func, insert, select, text

from tunesmith.domain.errors import SettingsError
from tunesmith.store.database import reading, shown, writing
from tunesmith.store.schema import HEAD, naming_faults, opened, revision, upgrade
from tunesmith.store.tables import METADATA, PROJECTS

_ROWS = 1000
"""Rows that are read and written at once."""

_LAST = {
    "sqlite": "SELECT seq FROM sqlite_sequence WHERE name = :table",
    "postgresql": "SELECT pg_sequence_last_value(pg_get_serial_sequence(:table, 'seq')::regclass)",
}
"""What number a table gave out last; none where it never gave one."""

_GO_ON = {
    "sqlite": (
        "DELETE FROM sqlite_sequence WHERE name = :table",
        "INSERT INTO sqlite_sequence (name, seq) VALUES (:table, :last)",
    ),
    "postgresql": ("SELECT setval(pg_get_serial_sequence(:table, 'seq')::regclass, :last)",),
}
"""What lets a table give out the numbers behind `last`."""


def check_empty(url: str) -> None:
    """Raise `SettingsError` unless the database at `url` is one that records can be brought to.

    It has no tables, or those of this version with nothing in them.
    """
    found = revision(url)
    if found not in {None, HEAD}:
        raise SettingsError(
            f"{shown(url)} has schema {found}; this version's is {HEAD}. Name an empty database."
        )
    if found is not None:
        with opened(url) as engine, reading(engine) as connection:
            _check_rows(connection, url)


def copy_records(source: str, target: str) -> int:
    """Bring all records at the URL `source` to the empty database `target`; tell how many.

    `source` has this version's schema, and is read as it is at one moment; others may write it
    meanwhile. In `target`, rows keep their ids and numbers, and new ones get those behind the last
    that `source` has given out. Where anything fails, there are no rows in it. Raises
    `SettingsError` where `target` is not empty or one of them cannot be used, and `DiskFullError`.
    """
    check_empty(target)
    upgrade(target)
    with (
        opened(source) as old,
        reading(old) as origin,
        opened(target) as new,
        writing(new) as copy,
    ):
        _check_rows(copy, target)
        copy.execute(delete(PROJECTS))
        rows = 0
        for table in METADATA.sorted_tables:
            rows += _put(copy, table, rows=_parts(origin, table, url=source))
            if "seq" in table.columns:
                _number_on(copy, table.name, origin=origin)
        return rows


def _put(copy: Connection, table: Table, *, rows: Iterable[Sequence[RowMapping]]) -> int:
    """Write `rows`, part by part; return how many. Raises `SettingsError` where some are lost."""
    put = 0
    for part in rows:
        copy.execute(insert(table), [dict(row) for row in part])
        put += len(part)
    found = copy.scalar(select(func.count()).select_from(table))
    if found != put:
        raise SettingsError(f"Of the {put} rows of '{table}', {found} arrived. Nothing was kept.")
    return put


def _parts(origin: Connection, table: Table, *, url: str) -> Iterator[Sequence[RowMapping]]:
    """Yield the rows of `table` by their keys, some at a time, so that few are in the memory."""
    query = select(table).order_by(*table.primary_key.columns)
    with naming_faults(url):
        found = origin.execute(query, execution_options={"yield_per": _ROWS})
        yield from found.mappings().partitions(_ROWS)


def _number_on(copy: Connection, table: str, *, origin: Connection) -> None:
    """Let `table` of `copy` number its new rows as `origin` would, that of gone ones included."""
    last = origin.scalar(text(_LAST[origin.dialect.name]), {"table": table})
    for step in _GO_ON[copy.dialect.name] if last else ():
        copy.execute(text(step), {"table": table, "last": last})


def _check_rows(connection: Connection, url: str) -> None:
    """Raise `SettingsError` where there is a row besides the default project."""
    for table in METADATA.sorted_tables:
        rows = connection.scalar(select(func.count()).select_from(table)) or 0
        if rows > (table is PROJECTS):
            raise SettingsError(
                f"{shown(url)} is not empty: its table '{table}' has {rows} rows. Name a database "
                "that no service has used."
            )
