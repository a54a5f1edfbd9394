"""Where the settings say that the database is, by default in the data folder."""

from __future__ import annotations

from pathlib import Path

from tunesmith.domain.clock import SystemClock
from tunesmith.domain.errors import SettingsError
from tunesmith.store.sql import SqlStore

DATABASE = "tunesmith.db"
"""The database's file in the data folder."""


def open_store(folder: Path, url: str | None = None) -> SqlStore:
    """Open the database at `url`, whether or not a service is using it.

    Without a `url` it is a file of SQLite in the data folder `folder`. Raises `SettingsError`
    where it cannot be used.
    """
    return SqlStore.open(database_url(folder, url), SystemClock())


def database_url(folder: Path, url: str | None) -> str:
    """Return `url`, or that of the file in the data folder `folder`, which is made where absent.

    Others of the machine cannot read a new one, even where they can list the folder: it holds the
    secrets that webhooks are signed with. Raises `SettingsError` where it cannot be made.
    """
    if url is not None:
        return url
    path = folder / DATABASE
    try:
        # SQLite gives the files that it keeps beside it the same mode.
        path.touch(mode=0o600)
    except OSError as error:
        raise SettingsError(f"The database '{path}' cannot be used: {error.strerror}.") from None
    return f"sqlite:///{path}"
