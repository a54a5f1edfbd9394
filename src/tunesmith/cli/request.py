"""The request for a job, out of the options of a command line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tunesmith.cli.files import upload
from tunesmith.cli.service import Object, Service


@dataclass(frozen=True)
class AskedJob:
    """What the command line says of a job."""

    body: Object
    """The request, without the files that are yet to be uploaded."""
    files: dict[str, str]
    """Files by the key of the request that names them: each an id, or a path on this machine."""

    def complete(self, service: Service) -> Object:
        """Return the whole request, once the files that are paths have been uploaded."""
        found = {key: _file_id(service, key, name=name) for key, name in self.files.items()}
        return self.body | found


def asked_job(
    training_file: Annotated[
        str | None,
        typer.Argument(help="Path of a file, which is uploaded, or the id of an uploaded one."),
    ] = None,
    *,
    model: Annotated[
        str | None, typer.Option(help="Base model, or tuned model or checkpoint to go on from.")
    ] = None,
    validation_file: Annotated[
        str | None, typer.Option(help="Path or id of a file that is held out.")
    ] = None,
    method: Annotated[
        Literal["supervised", "dpo"] | None,
        typer.Option(help="How to tune; supervised unless set."),
    ] = None,
    objective: Annotated[
        Literal["supervised", "reasoning", "pretraining", "embedding", "rerank"] | None,
        typer.Option(help="What is learnt, where it is no pairs."),
    ] = None,
    suffix: Annotated[str | None, typer.Option(help="Part of the tuned model's name.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; drawn at random unless set.")] = None,
    n_epochs: Annotated[int | None, typer.Option(help="How often each example is seen.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples behind one step.")] = None,
    learning_rate_multiplier: Annotated[
        float | None, typer.Option(help="Factor of the usual learning rate.")
    ] = None,
    adapter: Annotated[
        Literal["lora", "rslora", "dora", "qlora", "full"] | None,
        typer.Option(help="Kind of adapter, or `full` for none."),
    ] = None,
    rank: Annotated[int | None, typer.Option(help="Rank of the adapter.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens of the longest example.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="End after this many steps.")] = None,
    held_out_percent: Annotated[
        float | None, typer.Option(help="Share of the training file that is held out.")
    ] = None,
    device: Annotated[
        Literal["cpu", "cuda", "hpu", "xpu"] | None, typer.Option(help="What to train on.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that train together.")] = None,
    priority: Annotated[
        Literal["low", "normal", "high"] | None, typer.Option(help="Its turn in the queue.")
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(help="A label, KEY=VALUE; may be given again.")
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Any field of the request, FIELD=JSON, such as tuning.max_seconds=600."
        ),
    ] = None,
    request: Annotated[
        Path | None,
        typer.Option(
            "--from", exists=True, dir_okay=False, help="A request as JSON, which options change."
        ),
    ] = None,
) -> AskedJob:
    """Return what the options ask for. Raises `typer.BadParameter` where they cannot be read."""
    body = _read(request) if request else {}
    kind = method or (body.get("method") or {}).get("type") or "supervised"
    values: dict[str, object] = {
        "model": model,
        "method.type": method,
        "suffix": suffix,
        "seed": seed,
        f"method.{kind}.hyperparameters.n_epochs": n_epochs,
        f"method.{kind}.hyperparameters.batch_size": batch_size,
        f"method.{kind}.hyperparameters.learning_rate_multiplier": learning_rate_multiplier,
        "tuning.objective": objective,
        "tuning.adapter.kind": adapter,
        "tuning.adapter.rank": rank,
        "tuning.max_length": max_length,
        "tuning.max_steps": max_steps,
        "tuning.held_out_percent": held_out_percent,
        "tuning.device": device,
        "tuning.workers": workers,
        "tuning.priority": priority,
    }
    for field, value in values.items():
        if value is not None:
            _put(body, field, value=value)
    if "method" in body and isinstance(body["method"], dict):
        body["method"].setdefault("type", kind)
    for label in metadata or []:
        key, value = _split(label, "--metadata")
        body["metadata"] = {**(body.get("metadata") or {}), key: value}
    for each in given or []:
        field, text = _split(each, "--set")
        _put(body, field, value=_value(text))
    named = {"training_file": training_file, "validation_file": validation_file}
    return AskedJob(_checked(body, training_file), {k: v for k, v in named.items() if v})


def _checked(body: Object, training_file: str | None) -> Object:
    if "model" not in body and "General" not in body:
        raise typer.BadParameter("name the model to tune", param_hint="--model")
    if training_file is None and "training_file" not in body:
        raise typer.BadParameter("name a file, or its id", param_hint="TRAINING_FILE")
    return body


def _file_id(service: Service, key: str, *, name: str) -> str:
    if Path(name).is_file():
        uploaded = upload(service, Path(name))
        service.tell(f"{name} is uploaded as {uploaded['id']}.")
        return str(uploaded["id"])
    if not name.startswith("file-"):
        raise typer.BadParameter(
            f"there is no file '{name}', and it is no id, which begins with 'file-'",
            param_hint=key.upper() if key == "training_file" else "--validation-file",
        )
    return name


def _read(request: Path) -> Object:
    try:
        body = json.loads(request.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"'{request}' is no JSON: {error}", param_hint="--from") from None
    if not isinstance(body, dict):
        raise typer.BadParameter(f"'{request}' holds no JSON object", param_hint="--from")
    return body


def _split(text: str, option: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not key or not sign:
        raise typer.BadParameter(f"'{text}' has no '=' between name and value", param_hint=option)
    return key, value


def _value(text: str) -> Any:
    """Return what `text` says as JSON; what is none is a text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _put(body: Object, field: str, *, value: object) -> None:
    *above, last = field.split(".")
    place = body
    for key in above:
        below = place.get(key) or {}
        if not isinstance(below, dict):
            raise typer.BadParameter(f"'{key}' holds no fields", param_hint="--set")
        place[key] = below
        place = below
    place[last] = value
