"""Exports a model, with progress, and downloads its files."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Literal

import typer

from tunesmith.cli.follow import PAUSE, patiently
from tunesmith.cli.service import INTERRUPTED, JOB_FAILED, Object, Service, part
from tunesmith.cli.shown import size
from tunesmith.domain.errors import TunesmithError

ExportFormat = Literal["adapter", "merged", "gguf"]
"""What a model can be exported as."""

_PATH = "/exports"
_CHUNK = 2**20


def export(service: Service, body: Object, *, folder: Path | None) -> None:
    """Have a model exported, and download the files into `folder`, unless that is `None`.

    Raises `TunesmithError` where the folder cannot be used or a file arrives damaged, and
    `typer.Exit` where the export does not succeed.
    """
    if folder and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TunesmithError(f"'{folder}' is there already. Name a new folder with --output.")
    made = service.post(_PATH, body)
    try:
        made = _wait(service, made)
    except KeyboardInterrupt:
        service.tell(f"\nThe service goes on with {made['id']}.")
        raise typer.Exit(INTERRUPTED) from None
    if made["status"] != "succeeded":
        error = made["error"] or {"message": "it was cancelled", "code": "cancelled"}
        service.show(
            made, f"{made['id']} is {made['status']}: {error['message']} ({error['code']})"
        )
        raise typer.Exit(JOB_FAILED)
    if folder:
        _download(service, made, folder=folder)
    service.show(made, str(folder) if folder else f"Pushed to {made['push_to']}.")


def _wait(service: Service, made: Object) -> Object:
    from rich.console import Console
    from rich.progress import Progress

    path = f"{_PATH}/{part(made['id'])}"
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("Exporting", total=1.0)
        while made["status"] in ("queued", "running"):
            told = made["message"] or made["status"]
            progress.update(bar, completed=made["progress"], description=told)
            time.sleep(PAUSE)
            made = patiently(service, lambda: service.get(path))
    return made


def _download(service: Service, made: Object, *, folder: Path) -> None:
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress

    columns = (*Progress.get_default_columns(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for file in made["files"]:
            target = folder / file["name"]
            if not target.resolve().is_relative_to(folder.resolve()):
                raise TunesmithError(f"The file '{file['name']}' would leave '{folder}'.")
            target.parent.mkdir(parents=True, exist_ok=True)
            bar = progress.add_task(file["name"], total=file["bytes"])
            service.download(
                f"{_PATH}/{part(made['id'])}/content/{file['name']}",
                target,
                told=lambda count, bar=bar: progress.advance(bar, count),  # type: ignore[misc]
            )
            _check(target, file)
    service.tell(
        f"{len(made['files'])} files, {size(sum(each['bytes'] for each in made['files']))}"
    )


def _check(target: Path, file: Object) -> None:
    digest = hashlib.sha256()
    with target.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != file["sha256"]:
        target.unlink()
        raise TunesmithError(f"'{target}' arrived damaged, and is deleted. Export it again.")
