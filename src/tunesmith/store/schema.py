"""Brings a database to the schema that this program works with; forward only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DatabaseError

from tunesmith.domain.errors import BusyError, SettingsError
from tunesmith.store.database import open_database, reading, shown, writing

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0009"
"""Revision of the newest migration."""

MIGRATIONS = Path(__file__).parent / "migrations"
"""Alembic's script folder."""

_PATIENCE = 600.0
"""Seconds that we wait for another process to end its migrations."""


def upgrade(url: str) -> str | None:
    """Bring the database at `url`, empty or older, to `HEAD`; return the revision it had.

    All steps are one transaction under the lock of writers, so a second process that does the
    same waits and finds nothing left to do, and a crash leaves the schema as it was.
    Raises `SettingsError` where the database cannot be used or is newer.
    """
    with opened(url) as engine:
        with reading(engine) as connection:
            current = _revision(connection)
        if current != HEAD:
            # It takes a while to import, and a database is at the head nearly always. Whoever
            # holds the lock must not stand still meanwhile.
            import alembic.command  # noqa: F401, PLC0415

            with writing(engine, patience=_PATIENCE) as connection:
                current = _revision(connection)
                _migrate(connection)
        return current


def revision(url: str) -> str | None:
    """Return the revision of the schema of the database at `url`; `None` where it has none yet.

    Raises `SettingsError` where the database cannot be used.
    """
    with opened(url) as engine, reading(engine) as connection:
        return _revision(connection)


def schema_mend(found: str | None) -> str:
    """Return what to do about a database whose revision is `found` and not `HEAD`."""
    if found is not None and found > HEAD:
        return "Install the version that last used it, or a newer one."
    before = "" if found is None else "Back it up; then run"
    return f"{before or 'Run'} `tunesmith db upgrade`, or start the service, which does the same."


@contextmanager
def opened(url: str) -> Iterator[Engine]:
    """Open the database at `url` for a block; see `naming_faults` for what is raised."""
    engine = open_database(url)
    try:
        with naming_faults(url):
            yield engine
    finally:
        engine.dispose()


@contextmanager
def naming_faults(url: str) -> Iterator[None]:
    """Raise `SettingsError`, which names `url`, where the block cannot use its database."""
    try:
        yield
    except DatabaseError as fault:
        raise _unusable(url, fault.orig) from fault
    except BusyError as fault:
        raise _unusable(url, fault.__cause__ or fault) from fault


def _unusable(url: str, why: BaseException | None) -> SettingsError:
    # A server's message may have several lines.
    told = " ".join(str(why).split()).rstrip(".")
    return SettingsError(f"The database {shown(url)} cannot be used: {told}.")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def check_known(connection: Connection) -> None:
    """Raise `SettingsError` where the database has a schema that this version does not know."""
    if _revision(connection) != HEAD:
        _known_config(connection)


def _migrate(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415

    command.upgrade(_known_config(connection), "head")


def _known_config(connection: Connection) -> Config:
    """Return Alembic's configuration; raises `SettingsError` where the schema is not known."""
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current = _revision(connection)
    if current is not None and current not in known:
        raise SettingsError(
            f"The database has schema {current}, but this version of Tunesmith knows only "
            f"up to {HEAD}. Install the version that last used this database, or a newer one."
        )
    return config
