"""Where the data folder has its database."""

from __future__ import annotations

from pathlib import Path

from tunesmith.domain.clock import SystemClock
from tunesmith.store.sql import SqlStore


def open_store(folder: Path) -> SqlStore:
    """Open the database of the data folder `folder`, whether or not a service is using it.

    Raises `SettingsError` where it cannot be used.
    """
    return SqlStore.open(f"sqlite:///{folder / 'tunesmith.db'}", SystemClock())
