"""What is peculiar to PostgreSQL."""

from __future__ import annotations

import re
from typing import Any

from pydantic_core import from_json, to_json
from sqlalchemy import (
    URL,
    BigInteger,
    Connection,
    Engine,
    ExceptionContext,
    bindparam,
    create_engine,
    event,
    func,
    select,
)

from tunesmith.domain.errors import DiskFullError, SettingsError
from tunesmith.store.faults import busy, unavailable

WRITERS = 0x74756E65736D
"""The advisory lock of the one who writes, the letters of `tunesm`; locks are a database's own."""

IDLE = 5
"""Seconds after which the server ends a transaction whose process stands still in its midst.

Less than a lease lives, so that who takes over from such a process need not wait for it.
"""

_CONNECTIONS = 10
"""Connections of a process that stay open."""

_MORE = 10
"""Connections that it opens besides where many read at once; a server takes 100 in all."""

_REACHED = {
    "connect_timeout": "10",
    # Whoever waits for a server that has vanished gives up after half a minute.
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}
"""How the server is reached, in libpq's words, unless the URL says it otherwise."""

_NUL = re.compile(r"((?<!\\)(?:\\\\)*)\\u0000")
"""U+0000 as JSON writes it."""

_FULL, _LOCKED = "53100", "55P03"
"""Codes of a full disk, and of a lock that was waited for in vain."""

_AWAY = ("08", "57P", "53300", "25P03")
"""Beginnings of the codes of a server that is away, is ending, or has broken us off."""

_LOCK = select(
    func.set_config("lock_timeout", bindparam("patience"), True),
    func.set_config("idle_in_transaction_session_timeout", bindparam("idle"), True),
    func.pg_advisory_xact_lock(bindparam("lock", type_=BigInteger)),
)


def make_engine(place: URL) -> Engine:
    """Return the engine for the database at `place`.

    Raises `SettingsError` where the driver is not installed.
    """
    try:
        engine = create_engine(
            place.update_query_dict(_REACHED | dict(place.query)),
            json_deserializer=from_json,
            json_serializer=_json,
            pool_size=_CONNECTIONS,
            max_overflow=_MORE,
            # A server may have been started anew since a connection was used.
            pool_pre_ping=True,
        )
    except ModuleNotFoundError:
        raise SettingsError(
            "This install lacks 'tunesmith[postgres]', which a database of PostgreSQL needs. "
            "Install it."
        ) from None
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "handle_error", _name_fault)
    return engine


def only_read(connection: Connection) -> None:
    """Let the transactions of `connection` see one state of the database, and change nothing."""
    connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def lock_writers_out(connection: Connection, *, patience: float) -> None:
    """Let nobody else write until the transaction ends; wait `patience` seconds for who does.

    Each statement behind this one sees all that was committed before, since the transaction is
    of the level READ COMMITTED.
    """
    # Settings of the transaction alone, which a pooler between us and the server keeps apart.
    given = {"patience": f"{patience:.3f}s", "idle": f"{IDLE}s", "lock": WRITERS}
    connection.execute(_LOCK, given)


def _set_up(connection: Any, _record: object) -> None:
    # Imported with the driver alone.
    from psycopg.types.string import StrDumper  # noqa: PLC0415

    class WithoutNul(StrDumper):
        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\0", "\ufffd") if "\0" in obj else obj)

    connection.adapters.register_dumper(str, WithoutNul)


def _json(value: object) -> str:
    """Return the JSON of `value`, such that PostgreSQL can look into it.

    It takes no U+0000, in whose place stands the character for what cannot be shown, and no
    numbers that are none, which become strings that are read back as numbers.
    """
    text = to_json(value, inf_nan_mode="strings").decode()
    return _NUL.sub(r"\1�", text) if r"\u0000" in text else text


def _name_fault(context: ExceptionContext) -> None:
    fault = context.original_exception
    code: str = getattr(fault, "sqlstate", None) or ""
    if code == _FULL:
        raise DiskFullError from fault
    if code == _LOCKED:
        raise busy() from fault
    # There is no connection yet where none could be made.
    if context.is_disconnect or context.connection is None or code.startswith(_AWAY):
        raise unavailable() from fault
