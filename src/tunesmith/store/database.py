"""How the database is opened; what is peculiar to SQLite stands here alone."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import Histogram
from pydantic_core import from_json
from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event

from tunesmith.domain.errors import BusyError, DiskFullError

_WRITES = "tunesmith_writes"
"""Execution option of a connection whose transactions write."""

_GUARD = "tunesmith_guard"
"""Execution option of an engine: what each transaction that writes is to pass first."""

_TURN = "tunesmith_turn"
"""Execution option of an engine: the lock that its writers take in turns."""

_CONNECTIONS = 40
"""Connections that stay open: as many as the API has threads, since opening one takes long."""


_PATIENCE = 10_000
"""Milliseconds that a writer waits for the one before it."""

_MAPPED = 2**30
"""Bytes of a local database that are read as memory; what lies beyond is read as a file."""

_RETRY_AFTER = 5
"""Seconds after which a writer that waited in vain is told to try again."""

SECONDS = Histogram(
    "tunesmith_store_transaction_seconds",
    "Seconds that transactions took, with the wait for the writers before them.",
    ["kind"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 10),
)
"""`kind` is `read` or `write`."""
_READING, _WRITING = SECONDS.labels("read"), SECONDS.labels("write")


def open_database(url: str) -> Engine:
    """Return the engine for `url`, such as `sqlite:////srv/tunesmith.db`; it connects on use.

    Where the disk is full, its statements raise `DiskFullError`; where another process keeps the
    database to itself, `BusyError`.
    """
    # Four times as fast as the standard library, which lists of jobs feel.
    engine = create_engine(url, json_deserializer=from_json, pool_size=_CONNECTIONS)
    if engine.dialect.name == "sqlite":
        engine.update_execution_options(**{_TURN: threading.Lock()})
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        event.listen(engine, "handle_error", _name_fault)
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that sees one state of the database and changes nothing."""
    with _READING.time(), engine.begin() as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that commits at the block's end, or undoes all where it raises.

    Raises what the guard of a `guarded` engine raises.
    """
    writes = engine.execution_options(**{_WRITES: True})
    with _WRITING.time(), _turn(engine), writes.begin() as connection:
        guard = connection.get_execution_options().get(_GUARD)
        if guard is not None:
            guard(connection)
        yield connection


@contextmanager
def _turn(engine: Engine) -> Iterator[None]:
    """Let one thread of this process write to SQLite at once, and wake the others soon after it.

    SQLite's own waiting, which is left for other processes, looks again and again after ever
    longer pauses, in which latecomers go ahead.
    """
    lock = engine.get_execution_options().get(_TURN)
    if lock is None:
        yield
        return
    if not lock.acquire(timeout=_PATIENCE / 1000):
        raise _busy()
    try:
        yield
    finally:
        lock.release()


def guarded(engine: Engine, guard: Callable[[Connection], None]) -> Engine:
    """Return `engine` such that each transaction that writes begins with `guard`."""
    return engine.execution_options(**{_GUARD: guard})


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver would begin transactions late, at the first write; `_begin_sqlite` does it.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {_PATIENCE}")
    connection.execute("PRAGMA journal_mode = WAL")
    # Every commit reaches the disk before the answer goes out.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    # Rows of a list lie far apart; the connections share the pages that the system holds.
    connection.execute(f"PRAGMA mmap_size = {_MAPPED}")


def _begin_sqlite(connection: Connection) -> None:
    # A writer locks before it reads: what it has compared cannot change until it sets.
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _name_fault(context: ExceptionContext) -> None:
    fault = context.original_exception
    # Some errors of the driver's own have no code.
    code = getattr(fault, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_FULL:
        raise DiskFullError from fault
    if code == sqlite3.SQLITE_BUSY:
        raise _busy() from fault


def _busy() -> BusyError:
    return BusyError(
        f"The database has been kept busy for {_PATIENCE // 1000} s, most often by another process "
        "such as a backup. Nothing was changed; try again later.",
        code="database_busy",
        retry_after=_RETRY_AFTER,
    )
