"""What is peculiar to SQLite."""

from __future__ import annotations

import sqlite3

from pydantic_core import from_json
from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event

from tunesmith.domain.errors import DiskFullError
from tunesmith.store.faults import busy

_WRITES = "tunesmith_writes"
"""Execution option of a connection: the seconds that its transactions, which write, wait."""

_CONNECTIONS = 40
"""Connections that stay open: as many as the API has threads, since opening one takes long."""

_MAPPED = 2**30
"""Bytes of a local database that are read as memory; what lies beyond is read as a file."""


def make_engine(place: URL) -> Engine:
    """Return the engine for the database at `place`."""
    # Four times as fast as the standard library, which lists of jobs feel.
    engine = create_engine(place, json_deserializer=from_json, pool_size=_CONNECTIONS)
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    event.listen(engine, "handle_error", _name_fault)
    return engine


def will_write(connection: Connection, *, patience: float) -> None:
    """Let the transactions of `connection` lock first, for which they wait `patience` seconds."""
    connection.execution_options(**{_WRITES: patience})


def _set_up(connection: sqlite3.Connection, _record: object) -> None:
    # The driver would begin transactions late, at the first write; `_begin` does it.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    # Every commit reaches the disk before the answer goes out.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    # Rows of a list lie far apart; the connections share the pages that the system holds.
    connection.execute(f"PRAGMA mmap_size = {_MAPPED}")


def _begin(connection: Connection) -> None:
    patience: float | None = connection.get_execution_options().get(_WRITES)
    if patience is None:
        connection.exec_driver_sql("BEGIN")
        return
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(patience * 1000)}")
    # A writer locks before it reads: what it has compared cannot change until it sets.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _name_fault(context: ExceptionContext) -> None:
    fault = context.original_exception
    # Some errors of the driver's own have no code.
    code = getattr(fault, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_FULL:
        raise DiskFullError from fault
    if code == sqlite3.SQLITE_BUSY:
        raise busy() from fault
