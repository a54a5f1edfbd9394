"""The `tunesmith` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunesmith import __version__
from tunesmith.cli.backups import backup_folder, restore_folder
from tunesmith.cli.db import db
from tunesmith.cli.doctor import examine
from tunesmith.cli.estimate import estimate_job
from tunesmith.cli.exports import exports
from tunesmith.cli.files import files
from tunesmith.cli.jobs import jobs
from tunesmith.cli.keys import keys, projects
from tunesmith.cli.models import models
from tunesmith.cli.serve import Part, serve_service
from tunesmith.cli.validate import validate_file
from tunesmith.domain.errors import TunesmithError
from tunesmith.settings import load_settings

app = typer.Typer(
    help="A self-hosted fine-tuning service that speaks OpenAI's and OPEA's APIs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("validate")(validate_file)
app.command("estimate")(estimate_job)
app.command("doctor")(examine)
app.command("backup")(backup_folder)
app.command("restore")(restore_folder)
app.add_typer(files, name="files")
app.add_typer(jobs, name="jobs")
app.add_typer(models, name="models")
app.add_typer(exports, name="exports")
app.add_typer(keys, name="keys")
app.add_typer(projects, name="projects")
app.add_typer(db, name="db")


@app.callback()
def tunesmith() -> None:
    """Carry one command out; `tunesmith COMMAND --help` explains each."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@app.command()
def serve(
    *,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (127.0.0.1; TUNESMITH_HOST).")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on, 0 for any (8015; TUNESMITH_PORT).")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of all state (TUNESMITH_DATA).")] = None,
    allow_open: Annotated[
        bool | None,
        typer.Option(
            "--allow-open",
            help="Serve others than loopback though there is no API key (TUNESMITH_ALLOW_OPEN).",
        ),
    ] = None,
    only: Annotated[
        Part | None,
        typer.Option(help="Run this process alone: the API, or the controller with its Ray."),
    ] = None,
) -> None:
    """Run the whole service on this machine: the API, the controller and Ray."""
    given = {"host": host, "port": port, "data": data, "allow_open": allow_open}
    try:
        settings = load_settings({k: v for k, v in given.items() if v is not None})
        serve_service(settings, only=only)
    except TunesmithError as error:
        typer.echo(f"tunesmith: {error.message}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    app()
