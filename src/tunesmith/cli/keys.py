"""`tunesmith keys` and `tunesmith projects`: who may use the service, and how much of it.

They work on the data folder itself, whether or not the service is running:
the first key has to come from somewhere. The running service follows within a
second or two.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.database import open_store
from tunesmith.cli.folder import open_folder
from tunesmith.cli.shown import date, table
from tunesmith.domain.errors import TunesmithError
from tunesmith.domain.keys import ApiKey, Scope, new_key
from tunesmith.domain.projects import DEFAULT_PROJECT, PROJECT_NAME, Project
from tunesmith.settings import load_settings
from tunesmith.store.sql import SqlStore

keys = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)
"""`tunesmith keys …`."""

projects = typer.Typer(help="List projects, set their limits and shares.", no_args_is_help=True)
"""`tunesmith projects …`."""

_HEAD = ("PROJECT", "MAX-BYTES", "MAX-JOBS", "REQUESTS-PER-MINUTE", "SHARE")

_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}

_LONGEST = 100 * 366 * 86400
"""Seconds, about a century, that a key lives at the most."""

Data = Annotated[Path | None, typer.Option(help="Folder of all state (TUNESMITH_DATA).")]
"""The option that every command here takes."""
Json = Annotated[bool, typer.Option("--json", help="Print what it tells as JSON.")]
"""The option that says for whom it is printed."""


@keys.command("create")
def create_key(
    *,
    project: Annotated[
        str, typer.Option(help="Project that the key opens; made with its first key.")
    ] = DEFAULT_PROJECT,
    name: Annotated[str, typer.Option(help="What the key is called, e.g. who has it.")],
    scope: Annotated[
        Scope, typer.Option(help="What it may do; each scope includes the ones before it.")
    ] = Scope.WRITE,
    expires_in: Annotated[
        str | None, typer.Option(help="When it ends by itself: 90d; units are m, h, d and w.")
    ] = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Create an API key and print it, once: nobody can look it up later."""
    if not re.fullmatch(PROJECT_NAME, project):
        raise typer.BadParameter(
            "give 1 to 64 letters, digits, '.', '_' or '-', a letter or digit first",
            param_hint="--project",
        )
    if not name.isprintable() or not 1 <= len(name.strip()) <= 64:
        raise typer.BadParameter("give 1 to 64 printable characters", param_hint="--name")
    now = int(time.time())
    expires_at = None if expires_in is None else now + _seconds(expires_in)
    secret, key = new_key(project, name.strip(), scope=scope, now=now, expires_at=expires_at)
    with _store(data) as store:
        store.add_key(key)
    if json:
        typer.echo(dumps({**_key(key), "key": secret}, indent=2))
        return
    # The key alone goes to standard output, so that it can be piped to where it belongs.
    typer.echo(
        f"{key.id} for project '{project}', {_ending(key)}. It is shown this once:", err=True
    )
    typer.echo(secret)


@keys.command("list")
def list_keys(*, data: Data = None, json: Json = False) -> None:
    """List the keys with their ids, and whether each is taken still."""
    now = time.time()
    with _store(data) as store:
        found = list(store.list_keys())
    if json:
        typer.echo(_listed([_key(key) for key in found]))
        return
    rows = [
        (key.id, key.project, key.name, key.scope, f"{key.prefix}…", _state(key, now))
        for key in found
    ]
    typer.echo(table(("ID", "PROJECT", "NAME", "SCOPE", "KEY", "STATE"), rows))


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="The key's id, `key_…`.")],
    *,
    data: Data = None,
    json: Json = False,
) -> None:
    """Revoke a key for good; a running service refuses it within two seconds."""
    with _store(data) as store:
        key = store.revoke_key(key_id)
    told = f"{key.id} ('{key.name}' of project '{key.project}') is revoked."
    typer.echo(dumps(_key(key), indent=2) if json else told)


@projects.command("list")
def list_projects(*, data: Data = None, json: Json = False) -> None:
    """List the projects and the limits of their own."""
    with _store(data) as store:
        found = list(store.list_projects())
    if json:
        typer.echo(_listed([project.model_dump(mode="json") for project in found]))
        return
    typer.echo(table(_HEAD, [_limits_row(project) for project in found]))


@projects.command("set")
def set_project(
    name: Annotated[str, typer.Argument(help="The project.")],
    *,
    max_bytes: Annotated[
        str | None, typer.Option(help="Most bytes of files and pending uploads, or `default`.")
    ] = None,
    max_jobs: Annotated[
        str | None, typer.Option(help="Most jobs that have not ended, or `default`.")
    ] = None,
    requests_per_minute: Annotated[
        str | None, typer.Option(help="Most requests in 60 seconds, or `default`.")
    ] = None,
    share: Annotated[
        str | None,
        typer.Option(
            help="Its part of the cluster beside the others', 1 or more, or `default`: 1."
        ),
    ] = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Set limits or the share of a project; `default` gives one back to the service's settings."""
    asked = {
        "max_bytes": max_bytes,
        "max_jobs": max_jobs,
        "requests_per_minute": requests_per_minute,
        "share": share,
    }
    given = {limit: _limit(limit, text) for limit, text in asked.items() if text is not None}
    if not given:
        raise typer.BadParameter(
            "name at least one limit to set, or the share", param_hint="--max-…"
        )
    with _store(data) as store:
        project = store.set_limits(name, given)
    shown = table(_HEAD, [_limits_row(project)])
    typer.echo(project.model_dump_json(indent=2) if json else shown)


@contextmanager
def _store(data: Path | None) -> Iterator[SqlStore]:
    """Open the data folder's store; what goes wrong ends the command with its message."""
    try:
        settings = load_settings({} if data is None else {"data": data})
        store = open_store(open_folder(settings.data), settings.database_url)
        try:
            yield store
        finally:
            store.close()
    except TunesmithError as error:
        typer.echo(f"tunesmith: {error.message}", err=True)
        raise typer.Exit(1) from None


def _seconds(duration: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]{0,9})([mhdw])", duration)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not 0 < seconds <= _LONGEST:
        raise typer.BadParameter(
            f"'{duration}' is no duration; give a number and a unit, such as 12h, 90d or 52w",
            param_hint="--expires-in",
        )
    return seconds


def _limit(limit: str, text: str) -> int | None:
    if text == "default":
        return None
    # Larger numbers than this do not fit into the database's column.
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise typer.BadParameter(
            f"'{text}' is neither a whole number nor `default`",
            param_hint=f"--{limit.replace('_', '-')}",
        )
    if limit == "share" and int(text) == 0:
        raise typer.BadParameter("it is 1 at the least", param_hint="--share")
    return int(text)


def _state(key: ApiKey, now: float) -> str:
    if key.revoked_at is not None:
        return f"revoked {date(key.revoked_at)}"
    return _ending(key) if key.usable(now=now) else f"expired {date(key.expires_at or 0)}"


def _ending(key: ApiKey) -> str:
    return "without expiry" if key.expires_at is None else f"expires {date(key.expires_at)}"


def _key(key: ApiKey) -> dict[str, object]:
    """Return what may be shown of a key, whose digest stays where it is."""
    return key.model_dump(mode="json", exclude={"digest"})


def _listed(found: list[dict[str, object]]) -> str:
    return dumps({"object": "list", "data": found}, indent=2, ensure_ascii=False)


def _limits_row(project: Project) -> tuple[str, ...]:
    own = (
        project.max_bytes,
        project.max_jobs,
        project.requests_per_minute,
        project.share,
    )
    return (project.name, *("default" if limit is None else str(limit) for limit in own))
