"""`tunesmith files`: training files of a running service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tunesmith.cli.row import row_lines
from tunesmith.cli.service import Object, Service, asking, part
from tunesmith.cli.shown import date, fields, size, table
from tunesmith.domain.errors import TunesmithError
from tunesmith.protocol.methods import AnyMethod

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openai.types import FilePurpose

files = typer.Typer(
    help="Upload, list, check, download and delete files of a service.", no_args_is_help=True
)
"""`tunesmith files …`."""

_AT_ONCE = 64 * 2**20
"""Bytes of the largest file that goes in one request; a larger one goes in parts of this size."""

FileId = Annotated[str, typer.Argument(help="The file's id, `file-…`.")]
"""The argument that names a file of the service."""


@files.command("upload")
@asking
def upload_file(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="What to upload.")
    ],
    *,
    service: Service,
    purpose: Annotated[
        Literal["fine-tune", "user_data", "evals", "batch", "vision", "assistants"],
        typer.Option(help="What the file is for, in OpenAI's words."),
    ] = "fine-tune",
) -> None:
    """Upload a file and print its id; a large one goes in parts."""
    uploaded = upload(service, file, purpose=purpose)
    service.show(uploaded, uploaded["id"])


@files.command("list")
@asking
def list_files(
    *,
    service: Service,
    purpose: Annotated[str | None, typer.Option(help="Only files of this purpose.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most rows.")] = 20,
    after: Annotated[str | None, typer.Option(help="Id behind which the rows begin.")] = None,
) -> None:
    """List files, newest first."""
    page = service.get("/files", purpose=purpose, limit=limit, after=after)
    rows = [
        (
            each["id"],
            size(each["bytes"]),
            each["purpose"],
            date(each["created_at"]),
            each["filename"],
        )
        for each in page["data"]
    ]
    service.show(page, table(("ID", "SIZE", "PURPOSE", "CREATED", "NAME"), rows))


@files.command("get")
@asking
def get_file(file_id: FileId, *, service: Service) -> None:
    """Show a file's description."""
    found = service.get(f"/files/{part(file_id)}")
    service.show(found, fields(found))


@files.command("download")
@asking
def download_file(
    file_id: FileId,
    *,
    service: Service,
    output: Annotated[
        Path | None,
        typer.Option(help="File, or folder of a file, to write; the file's own name if left out."),
    ] = None,
) -> None:
    """Download a file's content; nothing that is there is replaced."""
    found = service.get(f"/files/{part(file_id)}")
    # The name is what somebody called it when it was uploaded, and leads nowhere else.
    target = output or Path()
    if target.is_dir():
        target /= Path(found["filename"]).name or file_id
    if target.exists():
        raise TunesmithError(f"'{target}' is there already. Name another with --output.")
    service.download(f"/files/{part(file_id)}/content", target, told=lambda _: None)
    service.show(found, str(target))


@files.command("delete")
@asking
def delete_file(file_id: FileId, *, service: Service) -> None:
    """Delete a file, unless an unfinished job needs it."""
    gone = service.delete(f"/files/{part(file_id)}")
    service.show(gone, f"{file_id} is deleted.")


@files.command("report")
@asking
def report_file(
    file_id: FileId,
    *,
    service: Service,
    model: Annotated[
        str | None, typer.Option(help="Model whose tokens and steps are counted.")
    ] = None,
    method: Annotated[AnyMethod | None, typer.Option(help="Method that the file is for.")] = None,
    validation_file: Annotated[
        str | None, typer.Option(help="Id of the file to compare with.")
    ] = None,
) -> None:
    """Report all that is wrong or dubious in a file of the service.

    The exit code is 1 where a job would refuse it.
    """
    asked = {"model": model, "method": method, "validation_file": validation_file}
    report = service.post(
        f"/files/{part(file_id)}/validate",
        {key: value for key, value in asked.items() if value is not None},
    )
    service.show(report, _shown(report))
    if not report["valid"]:
        raise typer.Exit(1)


@files.command("row")
@asking
def show_row(
    file_id: FileId,
    line: Annotated[int, typer.Argument(min=1, help="Line on which the row begins.")],
    *,
    service: Service,
    model: Annotated[str, typer.Option(help="Model that is to see it.")],
    method: Annotated[
        AnyMethod | None,
        typer.Option(help="Method that the file is for."),
    ] = None,
    element: Annotated[
        int | None, typer.Option(min=1, help="Which example, where one line holds an array.")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=8, help="Tokens of the longest example.")
    ] = None,
    over_length: Annotated[
        Literal["cut", "refuse", "set_aside"] | None,
        typer.Option(help="What a job would do with longer examples."),
    ] = None,
    query_max_len: Annotated[
        int | None, typer.Option(min=8, help="Tokens of the longest query.")
    ] = None,
    passage_max_len: Annotated[
        int | None, typer.Option(min=8, help="Tokens of the longest passage.")
    ] = None,
    query_instruction: Annotated[
        str | None, typer.Option(help="What goes before each query.")
    ] = None,
    passage_instruction: Annotated[
        str | None, typer.Option(help="What goes before each passage.")
    ] = None,
    think: Annotated[
        tuple[str, str] | None,
        typer.Option(help="What begins a thought and what ends it, without marks of the model's."),
    ] = None,
) -> None:
    """Show a row as a model would see it; what would be learnt stands in ⟦ ⟧."""
    asked = {
        "model": model,
        "method": method,
        "element": element,
        "max_length": max_length,
        "over_length": over_length,
        "query_max_len": query_max_len,
        "passage_max_len": passage_max_len,
        "query_instruction": query_instruction,
        "passage_instruction": passage_instruction,
        "think_begin": think[0] if think else None,
        "think_end": think[1] if think else None,
    }
    found = service.get(f"/files/{part(file_id)}/rows/{line}", **asked)
    service.show(found, row_lines(found))


def upload(service: Service, file: Path, *, purpose: FilePurpose = "fine-tune") -> Object:
    """Upload `file`, in parts if it is large, and return the API's file object."""
    if file.stat().st_size <= _AT_ONCE:
        return service.client.files.create(file=file, purpose=purpose).to_dict()
    done = service.client.uploads.upload_file_chunked(
        file=file, mime_type="application/octet-stream", purpose=purpose, part_size=_AT_ONCE
    )
    if done.file is None:
        raise TunesmithError(f"The upload of '{file}' was not completed.")
    return done.file.to_dict()


def _shown(report: Object) -> str:
    lines = [
        f"{each['severity']:5}  {each['rule']}  {each['message']}" for each in report["errors"]
    ]
    if report["truncated"]:
        lines.append("…      of each rule, the first places alone are listed")
    lines += _counted(report["counts"])
    lines.append(f"{report['examples']:,} examples, format {report['format'] or 'unknown'}")
    if report["tokens"]:
        tokens = report["tokens"]
        lines.append(f"{tokens['total']:,} tokens, {tokens['learnt']:,} of them learnt")
    if report["estimate"]:
        run = report["estimate"]
        lines.append(
            f"A job would take {run['steps']:,} steps: {run['n_epochs']} epochs, batches of "
            f"{run['batch_size']}."
        )
    lines.append("A job would take it." if report["valid"] else "A job would refuse it.")
    return "\n".join(lines)


def _counted(counts: Mapping[str, int]) -> list[str]:
    width = max(map(len, counts), default=0)
    return [f"{rule:{width}}  {count:,}" for rule, count in counts.items()]
