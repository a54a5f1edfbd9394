"""Brings a database to the schema that this program works with; forward only."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, make_url, text
from sqlalchemy.exc import DatabaseError

from tunesmith.domain.errors import SettingsError
from tunesmith.store.database import open_database, reading, writing

HEAD = "0010"
"""Revision of the newest migration."""

MIGRATIONS = Path(__file__).parent / "migrations"
"""Alembic's script folder."""


def upgrade(url: str) -> None:
    """Bring the database at `url`, empty or older, to `HEAD`.

    All steps are one transaction, so a second process that does the same waits
    and finds nothing left to do, and a crash leaves the schema as it was.
    Raises `SettingsError` where the database cannot be opened or is newer.
    """
    engine = open_database(url)
    try:
        with reading(engine) as connection:
            current = _revision(connection)
        if current != HEAD:
            with writing(engine) as connection:
                _migrate(connection)
    except DatabaseError as fault:
        shown = make_url(url).render_as_string(hide_password=True)
        raise SettingsError(f"The database {shown} cannot be used: {fault.orig}.") from fault
    finally:
        engine.dispose()


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _migrate(connection: Connection) -> None:
    # Alembic takes a while to import, and a database is at the head nearly always.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current = _revision(connection)
    if current is not None and current not in known:
        raise SettingsError(
            f"The database has schema {current}, but this version of Tunesmith knows only "
            f"up to {HEAD}. Install the version that last used this data folder, or a newer one."
        )
    command.upgrade(config, "head")
