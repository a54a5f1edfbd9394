"""A fresh store for a test, copied from one that was migrated once."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

from tunesmith.domain.clock import Clock
from tunesmith.store.schema import upgrade
from tunesmith.store.sql import SqlStore

_FOLDER = tempfile.TemporaryDirectory(prefix="tunesmith-stores-")


def fresh_store(clock: Clock) -> SqlStore:
    """Return an empty store of its own; its file goes when the test process ends."""
    folder = Path(tempfile.mkdtemp(dir=_FOLDER.name))
    shutil.copy(_migrated(), folder / "tunesmith.db")
    return SqlStore.open(f"sqlite:///{folder}/tunesmith.db", clock)


@cache
def _migrated() -> Path:
    path = Path(_FOLDER.name) / "template.db"
    upgrade(f"sqlite:///{path}")
    return path
