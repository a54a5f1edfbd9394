"""`tunesmith models`: base models, and those that are tuned from them."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.catalogue import add_to_file, checked_source
from tunesmith.cli.chat import Conversation, hold
from tunesmith.cli.exports import ExportFormat, export
from tunesmith.cli.service import Service, asking, part
from tunesmith.cli.shown import date, fields, table
from tunesmith.domain.errors import TunesmithError
from tunesmith.settings import load_settings

models = typer.Typer(help="List, add, ask, export and delete models.", no_args_is_help=True)
"""`tunesmith models …`."""

Model = Annotated[str, typer.Argument(help="Base model, tuned model or checkpoint.")]
"""The argument that names a model."""


@models.command("list")
@asking
def list_models(*, service: Service) -> None:
    """List base models, then tuned ones, newest first."""
    page = service.get("/models")
    rows = [
        (
            each["id"],
            "base" if each["owned_by"] == "system" else "tuned",
            date(each["created"]) if each["created"] else "",
        )
        for each in page["data"]
    ]
    service.show(page, table(("MODEL", "KIND", "CREATED"), rows))


@models.command("get")
@asking
def get_model(model: Model, *, service: Service) -> None:
    """Show a model's description."""
    found = service.get(f"/models/{part(model)}")
    service.show(found, fields(found))


@models.command("delete")
@asking
def delete_model(model: Model, *, service: Service) -> None:
    """Delete a tuned model with its job's checkpoints, or a checkpoint of a job that has ended."""
    gone = service.delete(f"/models/{part(model)}")
    service.show(gone, f"{model} is deleted.")


@models.command("add")
def add_model(
    name: Annotated[str, typer.Argument(help="Name that clients give as `model`.")],
    *,
    folder: Annotated[
        Path | None, typer.Option(help="Folder of the model, as `transformers` saves it.")
    ] = None,
    hub: Annotated[
        str | None, typer.Option(help="Model of the Hugging Face hub, OWNER/NAME.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="With --hub: branch, tag or commit; main unless set.")
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that comes with it.")
    ] = False,
    data: Annotated[Path | None, typer.Option(help="Folder of all state (TUNESMITH_DATA).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what it tells as JSON.")] = False,
) -> None:
    """Offer one more base model: it is written into the settings file of the data folder.

    A service that runs has to be started again to offer it.
    """
    source = checked_source(folder, hub, revision=revision)
    try:
        settings = load_settings({} if data is None else {"data": data})
        file = add_to_file(settings, name, source=source, trust_remote_code=trust_remote_code)
    except TunesmithError as error:
        typer.echo(f"tunesmith: {error.message}", err=True)
        raise typer.Exit(1) from None
    told = f"'{name}' is in {file}. A service that runs must be started again to offer it."
    typer.echo(dumps({"model": name, "settings": str(file)}, indent=2) if json else told)


@models.command("chat")
@asking
def chat_with(
    model: Model,
    *,
    service: Service,
    message: Annotated[
        str | None, typer.Option(help="Ask this alone, and end; else lines are read and answered.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="What the conversation begins with.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens of an answer.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=2, help="0 for the likeliest answer.")
    ] = None,
) -> None:
    """Ask a model, and show its answers as they are made."""
    conversation = Conversation(service, model, max_tokens=max_tokens, temperature=temperature)
    if system is not None:
        conversation.say("system", system)
    hold(conversation, message)


@models.command("export")
@asking
def export_model(
    model: Model,
    *,
    service: Service,
    form: Annotated[
        ExportFormat, typer.Option("--format", help="The adapter alone, merged weights, or GGUF.")
    ] = "adapter",
    quantization: Annotated[
        str | None, typer.Option(help="With GGUF: f16, q8_0 and others.")
    ] = None,
    push_to: Annotated[
        str | None, typer.Option(help="Folder of the service, or hub repository, that gets it too.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="New or empty folder for the files; the model's name unless set."),
    ] = None,
) -> None:
    """Export a model and download its files, unless they are pushed elsewhere.

    The exit code is 4 where the export fails.
    """
    body = {"model": model, "format": form, "quantization": quantization, "push_to": push_to}
    folder = output or (None if push_to else Path(model.replace("/", "-").replace(":", "-")))
    export(service, body, folder=folder)
