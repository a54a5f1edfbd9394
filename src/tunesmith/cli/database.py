"""Where the data folder has its database."""

from __future__ import annotations

from pathlib import Path

from tunesmith.domain.clock import SystemClock
from tunesmith.domain.errors import SettingsError
from tunesmith.store.sql import SqlStore

DATABASE = "tunesmith.db"
"""The database's file in the data folder."""


def open_store(folder: Path) -> SqlStore:
    """Open the database of the data folder `folder`, whether or not a service is using it.

    Others of the machine cannot read a new one, even where they can list the folder: it holds the
    secrets that webhooks are signed with. Raises `SettingsError` where it cannot be used.
    """
    path = folder / DATABASE
    try:
        # SQLite gives the files that it keeps beside it the same mode.
        path.touch(mode=0o600)
    except OSError as error:
        raise SettingsError(f"The database '{path}' cannot be used: {error.strerror}.") from None
    return SqlStore.open(f"sqlite:///{path}", SystemClock())
