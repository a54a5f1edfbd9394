"""Copies a database that is in use to a file, and tells what artifacts a copy names."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, NullPool, Select, create_engine, select
from sqlalchemy.exc import DatabaseError

from tunesmith.domain.backups import Named
from tunesmith.domain.errors import DiskFullError, SettingsError
from tunesmith.domain.exports import Export, ExportStatus
from tunesmith.domain.uploads import UploadPart, UploadStatus
from tunesmith.store import rules
from tunesmith.store.copying import copy_records
from tunesmith.store.queries import read_all
from tunesmith.store.schema import check_known
from tunesmith.store.tables import (
    CHECKPOINTS,
    EXPORTS,
    FILES,
    JOBS,
    TUNED_MODELS,
    UPLOAD_PARTS,
    UPLOADS,
)


def copy_database(source: Path, target: Path) -> None:
    """Write the database `source` as it is at one moment to `target`, one file of its own.

    Others read and write it meanwhile, and need not wait. Raises `SettingsError` where it
    cannot be read, and `DiskFullError`.
    """
    target.touch(mode=0o600)
    with _naming_faults(source), closing(sqlite3.connect(target)) as copy:
        with closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as original:
            # All pages at once: in its write-ahead-log mode a reader holds up no writer.
            original.backup(copy, pages=-1)
        _close_up(copy)


def take_records(url: str, target: Path) -> None:
    """Write the records at `url`, most often PostgreSQL's, to `target` as `copy_database` does.

    They have this version's schema.
    """
    target.touch(mode=0o600)
    copy_records(url, f"sqlite:///{target}")
    with _naming_faults(target), closing(sqlite3.connect(target)) as copy:
        _close_up(copy)


def _close_up(copy: sqlite3.Connection) -> None:
    """Make it one file, with none beside it that could be left behind."""
    copy.execute("PRAGMA journal_mode = DELETE")


@contextmanager
def _naming_faults(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as fault:
        if getattr(fault, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise DiskFullError from fault
        raise SettingsError(f"The database '{path}' cannot be copied: {fault}.") from fault


def named_in(path: Path) -> Named:
    """Return what the database at `path`, whose schema is the newest, says to be there."""
    with _read_only(path) as connection:
        return _named(connection)


def check_schema(path: Path) -> None:
    """Raise `SettingsError` unless this version can bring the database at `path` to its schema."""
    with _read_only(path) as connection:
        check_known(connection)


@contextmanager
def _read_only(path: Path) -> Iterator[Connection]:
    """Open the copy at `path`, of which not a byte changes: its hash is in a manifest."""

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            yield connection
    except DatabaseError as fault:
        raise SettingsError(f"The database '{path}' cannot be read: {fault.orig}.") from fault
    finally:
        engine.dispose()


def _named(connection: Connection) -> Named:
    pending = UPLOADS.c.status == UploadStatus.PENDING
    parts = select(UPLOAD_PARTS).join(UPLOADS, UPLOADS.c.id == UPLOAD_PARTS.c.upload_id)
    exports = read_all(connection, select(EXPORTS), kind=Export)
    handed_out = (
        f"exports/{export.id}/files/{file.name}"
        for export in exports
        if export.status is ExportStatus.SUCCEEDED
        for file in export.files
    )
    keys = {
        *_column(connection, select(FILES.c.key)),
        *(part.key for part in read_all(connection, parts.where(pending), kind=UploadPart)),
        *handed_out,
    }
    unfinished = JOBS.c.status.in_(rules.UNFINISHED)
    writes = unfinished | JOBS.c.submission_open
    checkpoints = select(CHECKPOINTS.c.key).join(JOBS, JOBS.c.id == CHECKPOINTS.c.job_id)
    prefixes = {
        *_column(connection, select(TUNED_MODELS.c.key).where(~TUNED_MODELS.c.deleting)),
        *_column(connection, checkpoints.where(~CHECKPOINTS.c.deleting, ~writes)),
    }
    return Named(
        keys=frozenset(keys),
        prefixes=frozenset(prefixes),
        ended=tuple(_column(connection, select(JOBS.c.id).where(~writes))),
        open=tuple(_column(connection, select(JOBS.c.id).where(writes))),
        exports=tuple(export.id for export in exports),
    )


def _column(connection: Connection, query: Select[Any]) -> list[str]:
    return list(connection.scalars(query))
