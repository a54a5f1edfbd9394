"""How a database is opened, and how its transactions begin; what one kind has is in its module."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import Histogram
from sqlalchemy import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError

from tunesmith.domain.errors import SettingsError
from tunesmith.store import postgresql, sqlite
from tunesmith.store.faults import busy

_GUARD = "tunesmith_guard"
"""Execution option of an engine: what each transaction that writes is to pass first."""

_TURN = "tunesmith_turn"
"""Execution option of an engine: the lock that its writers take in turns."""

PATIENCE = 10.0
"""Seconds that a writer waits for the one before it."""

_NO_URL = (
    "The database's URL cannot be used. Give one such as postgresql://user:password@host:5432/name "
    "or sqlite:////srv/tunesmith.db, with what is special in a password written as %40 for @."
)

SECONDS = Histogram(
    "tunesmith_store_transaction_seconds",
    "Seconds that transactions took, with the wait for the writers before them.",
    ["kind"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 10),
)
"""`kind` is `read` or `write`."""
_READING, _WRITING = SECONDS.labels("read"), SECONDS.labels("write")


def open_database(url: str) -> Engine:
    """Return the engine for `url`, of SQLite or PostgreSQL; it connects on use.

    Such are `sqlite:////srv/tunesmith.db` and `postgresql://user:password@host/name`. Where the
    disk is full, its statements raise `DiskFullError`; where another process keeps the database
    to itself, or no server answers, `BusyError`. Raises `SettingsError` for other databases.
    """
    place = _parsed(url)
    make = sqlite.make_engine if place.drivername == "sqlite" else postgresql.make_engine
    engine = make(place)
    engine.update_execution_options(**{_TURN: threading.Lock()})
    return engine


def shown(url: str) -> str:
    """Return `url` as it may be shown, without its password."""
    place = _parsed(url)
    kept = {name: value for name, value in place.query.items() if name not in {"password"}}
    return place.set(query=kept).render_as_string(hide_password=True)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that sees one state of the database and changes nothing."""
    with _READING.time(), engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            postgresql.only_read(connection)
        with connection.begin():
            yield connection


@contextmanager
def writing(engine: Engine, *, patience: float | None = None) -> Iterator[Connection]:
    """Open a transaction that commits at the block's end, or undoes all where it raises.

    No other one writes meanwhile, in whatever process: what was read holds until the commit, and
    rows are numbered in the order in which others see them. One that waits longer than `patience`
    seconds, of which none means `PATIENCE`, raises `BusyError`. Raises what the guard of a
    `guarded` engine raises.
    """
    longest = PATIENCE if patience is None else patience
    with _WRITING.time(), _turn(engine, longest), engine.connect() as connection:
        postgres = engine.dialect.name == "postgresql"
        if not postgres:
            sqlite.will_write(connection, patience=longest)
        with connection.begin():
            if postgres:
                postgresql.lock_writers_out(connection, patience=longest)
            guard = connection.get_execution_options().get(_GUARD)
            if guard is not None:
                guard(connection)
            yield connection


@contextmanager
def _turn(engine: Engine, patience: float) -> Iterator[None]:
    """Let one thread of this process write at once, and wake the others soon after it.

    SQLite's own waiting, which is left for other processes, looks again and again after ever
    longer pauses, in which latecomers go ahead. On PostgreSQL, each that waits would hold one of
    the server's connections.
    """
    lock: threading.Lock = engine.get_execution_options()[_TURN]
    if not lock.acquire(timeout=patience):
        raise busy()
    try:
        yield
    finally:
        lock.release()


def guarded(engine: Engine, guard: Callable[[Connection], None]) -> Engine:
    """Return `engine` such that each transaction that writes begins with `guard`."""
    return engine.execution_options(**{_GUARD: guard})


def _parsed(url: str) -> URL:
    try:
        place = make_url(url)
    except (ArgumentError, ValueError):
        # Their messages would show the whole, password included.
        raise SettingsError(_NO_URL) from None
    if place.drivername in {"postgres", "postgresql"}:
        return place.set(drivername="postgresql+psycopg")
    if place.drivername not in {"sqlite", "postgresql+psycopg"}:
        raise SettingsError(_NO_URL)
    return place
