"""`tunesmith db`: the database's schema and records, worked on with no service running."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.database import DATABASE, database_url, open_store
from tunesmith.cli.folder import open_folder, owning
from tunesmith.domain.errors import SettingsError, TunesmithError
from tunesmith.domain.liveness import CONTROLLER
from tunesmith.settings import Settings, load_settings
from tunesmith.store.copying import copy_records
from tunesmith.store.database import shown
from tunesmith.store.schema import HEAD, revision, schema_mend, upgrade

db = typer.Typer(help="Upgrade, check or copy the database.", no_args_is_help=True)
"""`tunesmith db …`."""

Data = Annotated[Path | None, typer.Option(help="Folder of all state (TUNESMITH_DATA).")]
"""The option that every command here takes."""


@db.command("upgrade")
def upgrade_database(*, data: Data = None) -> None:
    """Bring the database to this version's schema, as a service does at its start.

    The database is the one that TUNESMITH_DATABASE_URL names, else the data folder's.
    """
    with _faults_told():
        settings = _settings(data)
        url = database_url(open_folder(settings.data), settings.database_url)
        before = upgrade(url)
    was = {None: "; it was empty", HEAD: " already"}.get(before, f"; it had {before}")
    typer.echo(f"{shown(url)} has schema {HEAD}{was}.")


@db.command("check")
def check_database(*, data: Data = None) -> None:
    """Tell whether the database has this version's schema; the exit code is 1 where it has not.

    Nothing is changed. The database is that of `tunesmith db upgrade`.
    """
    with _faults_told():
        settings = _settings(data)
        file = settings.data / DATABASE
        url = settings.database_url or f"sqlite:///{file}"
        # To look at a file that is absent would make it.
        absent = settings.database_url is None and not file.exists()
        found = None if absent else revision(url)
        if found != HEAD:
            has = f"schema {found}" if found else "no schema yet"
            raise SettingsError(
                f"{shown(url)} has {has}; this version's is {HEAD}. {schema_mend(found)}"
            )
    typer.echo(f"{shown(url)} has schema {HEAD}, this version's.")


@db.command("copy")
def copy_database(
    *,
    to: Annotated[str, typer.Option(help="URL of the empty database, as TUNESMITH_DATABASE_URL.")],
    data: Data = None,
) -> None:
    """Copy all records into another database, most often from SQLite into PostgreSQL.

    The records are those of the database that TUNESMITH_DATABASE_URL names, else the data
    folder's. They stay there. No service may be running.
    """
    with _faults_told():
        settings = _settings(data)
        if settings.database_url is None and not (settings.data / DATABASE).is_file():
            raise SettingsError(f"'{settings.data}' has no '{DATABASE}'. Name the data folder.")
        url = database_url(open_folder(settings.data), settings.database_url)
        with owning(settings.data, mend="End it first."):
            _check_quiet(settings)
            rows = copy_records(url, to)
    typer.echo(f"{shown(to)} has the {rows} records of {shown(url)} now. Set")
    typer.echo("TUNESMITH_DATABASE_URL to it before a service starts again.")


def _check_quiet(settings: Settings) -> None:
    """Raise `SettingsError` where a controller works on the database, be it on another machine.

    An older schema is brought forward, as a service would do it.
    """
    store = open_store(settings.data, settings.database_url)
    try:
        lease = store.lease(CONTROLLER)
    finally:
        store.close()
    if lease is not None:
        raise SettingsError(
            f"A controller, {lease.holder}, works on the database. End all services first; one "
            "that was killed holds it for some seconds more."
        )


def _settings(data: Path | None) -> Settings:
    return load_settings({} if data is None else {"data": data})


@contextmanager
def _faults_told() -> Iterator[None]:
    """End the command with the message of what goes wrong, and the exit code 1."""
    try:
        yield
    except TunesmithError as error:
        typer.echo(f"tunesmith: {error.message}", err=True)
        raise typer.Exit(1) from None
