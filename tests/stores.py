"""A fresh store for a test, copied from one that was migrated once."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest

from tunesmith.domain.clock import Clock
from tunesmith.domain.errors import NotFoundError
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.jobs import Job
from tunesmith.store.protocol import Store
from tunesmith.store.schema import upgrade
from tunesmith.store.sql import SqlStore

SQLITE_ALONE = pytest.mark.parametrize("kind", ["sqlite"])
"""Marks a test of the store's that is about SQLite; others run on each database."""

POSTGRESQL_ALONE = pytest.mark.parametrize("kind", ["postgresql"])
"""Marks a test of the store's that is about PostgreSQL."""

_FOLDER = tempfile.TemporaryDirectory(prefix="tunesmith-stores-")


def fresh_store(clock: Clock) -> SqlStore:
    """Return an empty store of its own; its file goes when the test process ends."""
    folder = Path(tempfile.mkdtemp(dir=_FOLDER.name))
    shutil.copy(migrated(), folder / "tunesmith.db")
    return SqlStore.open(f"sqlite:///{folder}/tunesmith.db", clock)


@cache
def migrated() -> Path:
    """Return a file of SQLite's with an empty store, to be copied."""
    path = Path(_FOLDER.name) / "template.db"
    upgrade(f"sqlite:///{path}")
    return path


def add_job(store: Store, job: Job) -> None:
    """Add `job`, and before it those of its files that are not there."""
    for file_id in filter(None, (job.training_file, job.validation_file)):
        try:
            store.file(file_id)
        except NotFoundError:
            store.add_file(_file(file_id))
    store.add_job(job)


def _file(file_id: str) -> File:
    return File(
        id=file_id,
        filename=f"{file_id}.jsonl",
        purpose=Purpose.FINE_TUNE,
        bytes=1,
        sha256="",
        created_at=0,
        key=f"files/{file_id}",
    )
