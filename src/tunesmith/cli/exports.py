"""`tunesmith exports`, and how a model is exported: with progress, and its files checked."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from tunesmith.cli.follow import PAUSE, patiently
from tunesmith.cli.service import INTERRUPTED, JOB_FAILED, Object, Service, asking, part
from tunesmith.cli.shown import date, fields, size, table
from tunesmith.domain.errors import TunesmithError

ExportFormat = Literal["adapter", "merged", "gguf"]
"""What a model can be exported as."""

exports = typer.Typer(
    help="List, download, cancel and delete exports of models.", no_args_is_help=True
)
"""`tunesmith exports …`."""

ExportId = Annotated[str, typer.Argument(help="The export's id, `exp_…`.")]
"""The argument that names an export."""

_PATH = "/exports"
_CHUNK = 2**20


@exports.command("list")
@asking
def list_exports(
    *,
    service: Service,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Most rows.")] = 20,
    after: Annotated[str | None, typer.Option(help="Id behind which the rows begin.")] = None,
) -> None:
    """List exports, newest first."""
    page = service.get(_PATH, limit=limit, after=after)
    rows = [
        (
            each["id"],
            each["status"],
            " ".join(filter(None, (each["format"], each["quantization"]))),
            size(sum(file["bytes"] for file in each["files"])) if each["files"] else "",
            date(each["created_at"]),
            each["model"],
        )
        for each in page["data"]
    ]
    service.show(page, table(("ID", "STATUS", "FORMAT", "SIZE", "CREATED", "MODEL"), rows))


@exports.command("get")
@asking
def get_export(export_id: ExportId, *, service: Service) -> None:
    """Show an export: how far it has come, its files, and what the comparison found."""
    found = service.get(f"{_PATH}/{part(export_id)}")
    service.show(found, fields(found))


@exports.command("download")
@asking
def download_export(
    export_id: ExportId,
    *,
    service: Service,
    output: Annotated[
        Path | None, typer.Option(help="New or empty folder for the files; the id unless set.")
    ] = None,
) -> None:
    """Download the files of an export that has succeeded, each checked by its SHA-256."""
    folder = output or Path(export_id.replace("/", "-"))
    _refuse_full(folder)
    made = service.get(f"{_PATH}/{part(export_id)}")
    if made["status"] != "succeeded":
        raise TunesmithError(f"{export_id} is {made['status']}, and has no files to download.")
    _download(service, made, folder=folder)
    service.show(made, str(folder))


@exports.command("cancel")
@asking
def cancel_export(export_id: ExportId, *, service: Service) -> None:
    """Cancel an export that has not ended."""
    made = service.post(f"{_PATH}/{part(export_id)}/cancel")
    service.show(made, f"{export_id} is {made['status']}.")


@exports.command("delete")
@asking
def delete_export(export_id: ExportId, *, service: Service) -> None:
    """Delete an export that has ended, with its files; what was pushed stays."""
    gone = service.delete(f"{_PATH}/{part(export_id)}")
    service.show(gone, f"{export_id} is deleted.")


def export(service: Service, body: Object, *, folder: Path | None) -> None:
    """Have a model exported, and download the files into `folder`, unless that is `None`.

    Raises `TunesmithError` where the folder cannot be used or a file arrives damaged, and
    `typer.Exit` where the export does not succeed.
    """
    if folder:
        _refuse_full(folder)
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


def _refuse_full(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TunesmithError(f"'{folder}' is there already. Name a new folder with --output.")


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
