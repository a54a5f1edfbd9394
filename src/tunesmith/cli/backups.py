"""`tunesmith backup` and `tunesmith restore`: a data folder as it was at one moment, elsewhere."""

from __future__ import annotations

import os
import shutil
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from tunesmith import __version__
from tunesmith.artifacts.backup import Backup, EarlierBackup
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.cli.database import DATABASE, open_store
from tunesmith.cli.folder import open_folder, owning, sharing
from tunesmith.cli.shown import size
from tunesmith.domain.backups import Manifest
from tunesmith.domain.disk import Disk, disk_is_full
from tunesmith.domain.errors import DiskFullError, SettingsError, TunesmithError
from tunesmith.settings import Settings, load_settings
from tunesmith.store.copying import check_empty, copy_records
from tunesmith.store.database import shown
from tunesmith.store.schema import upgrade
from tunesmith.store.snapshot import check_schema, copy_database, named_in, take_records

_PASSES = 20
"""How often the database is copied anew since something that it named had been deleted."""

_FOUND = {"lost+found", "serve.lock"}
"""What an empty folder may hold."""

_OTHER_SETTINGS = "settings.restored.toml"
"""Where settings are put back that name another database than the records were put into."""

Data = Annotated[Path | None, typer.Option(help="Folder of all state (TUNESMITH_DATA).")]
"""The option that both commands take."""


def backup_folder(
    target: Annotated[Path, typer.Argument(help="New folder that becomes the backup.")],
    *,
    since: Annotated[
        Path | None,
        typer.Option(help="Earlier backup on the same disk; what it has already is linked to it."),
    ] = None,
    data: Data = None,
) -> None:
    """Back up the data folder, whether or not a service is using it."""
    with _settings(data) as settings:
        manifest = back_up(settings, target.absolute(), since=since and since.absolute())
    for name in manifest.missing:
        typer.echo(f"tunesmith: {name} had been lost from the data folder before.", err=True)
    typer.echo(
        f"{target}: {size(manifest.size)} in {len(manifest.artifacts)} files and the database."
    )


def restore_folder(
    source: Annotated[Path, typer.Argument(help="Folder that `tunesmith backup` has made.")],
    *,
    data: Data = None,
) -> None:
    """Check a backup, and make a new data folder of it; none that holds anything is touched."""
    with _settings(data) as settings:
        manifest = restore(settings, source.absolute())
    taken = datetime.fromtimestamp(manifest.created_at, UTC)
    typer.echo(f"{settings.data}: restored as it was at {taken:%Y-%m-%d %H:%M:%S} UTC.")
    if settings.database_url:
        typer.echo(f"Its records are in {shown(settings.database_url)}.")
    if (settings.data / _OTHER_SETTINGS).exists():
        typer.echo(
            f"tunesmith: Its settings name another database, so they are in '{_OTHER_SETTINGS}'. "
            "Mend database_url there, and rename it to 'settings.toml'.",
            err=True,
        )


def back_up(settings: Settings, target: Path, *, since: Path | None = None) -> Manifest:
    """Make the backup `target` of the data folder. Raises `SettingsError`, `DiskFullError`.

    It is made aside and renamed at the end: what is called `target` is whole.
    """
    _refuse_bucket(settings)
    file = settings.data / DATABASE
    if not (settings.data.is_dir() if settings.database_url else file.is_file()):
        has = "it is no folder" if settings.database_url else f"it has no '{DATABASE}'"
        raise SettingsError(f"'{settings.data}' is no data folder: {has}.")
    if target.exists():
        raise SettingsError(f"'{target}' is there already. Name a new folder for the backup.")
    if target.is_relative_to(settings.data):
        raise SettingsError(f"'{target}' lies in the data folder. Name a place outside of it.")
    earlier = EarlierBackup(since) if since else None
    # An older schema is brought forward as the service would do it.
    open_store(settings.data, settings.database_url).close()
    url = settings.database_url
    copy = partial(take_records, url) if url else partial(copy_database, file)
    with sharing(settings.data, patience=3.0), _aside(target) as folder:
        disk = Disk(folder, floor=settings.min_free_bytes)
        disk.check(0 if url else file.stat().st_size)
        artifacts = LocalArtifacts(settings.data)
        backup = Backup(folder, artifacts, disk=disk, since=earlier)
        manifest = collect(backup, lambda: copy(backup.database), settings=_file_of(settings))
        os.sync()
        folder.rename(target)
    return manifest


def collect(backup: Backup, copy: Callable[[], None], *, settings: bytes | None = None) -> Manifest:
    """Copy the database by `copy` and what it names, until nothing is missing; return what it is.

    The database comes first: what it names was there then, and what is written later does no harm.
    Where something was deleted before its turn came, a newer copy of the database names it no more.
    What that names all the same was lost before.
    """
    missing: set[str] | None = None
    for _ in range(_PASSES):
        began = int(time.time())
        backup.database.unlink(missing_ok=True)
        copy()
        found = backup.take(named_in(backup.database))
        if not found or found == missing:
            return backup.finish(
                settings=settings, version=__version__, created_at=began, missing=found
            )
        missing = found
    raise SettingsError(
        f"In {_PASSES} passes something was deleted each time before it was copied. Try again when "
        "less is going on."
    )


def restore(settings: Settings, source: Path) -> Manifest:
    """Make the data folder of the backup `source`. Raises `SettingsError`, `DiskFullError`.

    The records go into the database that the settings name, else into the folder.
    """
    _refuse_bucket(settings)
    backup = EarlierBackup(source)
    folder = settings.data
    if folder.exists() and any(path.name not in _FOUND for path in folder.iterdir()):
        raise SettingsError(
            f"The folder '{folder}' is not empty. Name a new or empty one with --data."
        )
    backup.verify()
    check_schema(backup.database)
    if settings.database_url:
        check_empty(settings.database_url)
    open_folder(folder)
    with owning(folder), _undone(folder):
        Disk(folder, floor=settings.min_free_bytes).check(backup.manifest.size)
        backup.put_into(LocalArtifacts(folder))
        _put_settings(backup, settings)
        _put_records(backup, settings)
    return backup.manifest


def _refuse_bucket(settings: Settings) -> None:
    """Raise `SettingsError` where artifacts are not in the data folder."""
    if settings.artifacts_url:
        first = "pg_dump" if settings.database_url else f"a copy of '{settings.data / DATABASE}'"
        raise SettingsError(
            "Files and results are in a bucket (TUNESMITH_ARTIFACTS_URL), which `tunesmith backup` "
            f"and `restore` do not reach. Keep the records by {first}, and after them what the "
            "bucket holds, by its own versions or a copy."
        )


def _put_settings(backup: EarlierBackup, settings: Settings) -> None:
    """Put the settings back, under another name where they name another database.

    A service that started by them would work on the database that the backup was taken of.
    """
    content = backup.settings
    if content is None:
        return
    named = tomllib.loads(content.decode()).get("database_url")
    same = named in {None, settings.database_url}
    path = settings.data / ("settings.toml" if same else _OTHER_SETTINGS)
    _put_private(path, content)


def _put_records(backup: EarlierBackup, settings: Settings) -> None:
    """Put the records back, last: a folder with them is one that a service may go on from."""
    folder = settings.data
    aside = folder / f"{DATABASE}.aside"
    copy_database(backup.database, aside)
    os.sync()
    if settings.database_url is None:
        aside.rename(folder / DATABASE)
        open_store(folder).close()
        return
    upgrade(f"sqlite:///{aside}")
    copy_records(f"sqlite:///{aside}", settings.database_url)
    aside.unlink()


def _file_of(settings: Settings) -> bytes | None:
    path = settings.data / "settings.toml"
    return path.read_bytes() if path.is_file() else None


@contextmanager
def _settings(data: Path | None) -> Iterator[Settings]:
    """Yield the settings; what goes wrong in the block is told in a line, with exit code 1."""
    try:
        yield load_settings({"data": data} if data else {})
    except DiskFullError as error:
        typer.echo(f"tunesmith: {error.message} Nothing was made.", err=True)
        raise typer.Exit(1) from None
    except TunesmithError as error:
        typer.echo(f"tunesmith: {error.message}", err=True)
        raise typer.Exit(1) from None
    except OSError as error:
        full = " Nothing was made: the disk is full." if disk_is_full(error) else ""
        typer.echo(f"tunesmith: {error}.{full}", err=True)
        raise typer.Exit(1) from None


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """Yield a new folder beside `target`, which is removed where the block fails."""
    folder = target.with_name(f"{target.name}.unfinished-{os.getpid()}")
    folder.mkdir(parents=True, mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _undone(folder: Path) -> Iterator[None]:
    """Empty `folder`, which was empty before, where the block fails."""
    try:
        yield
    except BaseException:
        for path in folder.iterdir():
            if path.name in _FOUND:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        raise


def _put_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
