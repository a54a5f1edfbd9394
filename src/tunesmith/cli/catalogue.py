"""Adds a base model to the settings file."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path

import typer

from tunesmith.cli.folder import open_folder
from tunesmith.domain.errors import ConflictError, SettingsError
from tunesmith.domain.models import MODEL_NAME, FolderSource, HubSource
from tunesmith.settings import Settings, load_settings

_HUB_REPO = r"[\w.-]+/[\w.-]+"
_WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")


def checked_source(
    folder: Path | None, hub: str | None, *, revision: str | None
) -> FolderSource | HubSource:
    """Return the one source that is named. Raises `typer.BadParameter` where it cannot be one."""
    if (folder is None) == (hub is None):
        raise typer.BadParameter("name the source by one of --folder and --hub")
    if hub is not None:
        if not re.fullmatch(_HUB_REPO, hub):
            raise typer.BadParameter(f"'{hub}' is not OWNER/NAME", param_hint="--hub")
        return HubSource(repo=hub, revision=revision or "main")
    if revision is not None:
        raise typer.BadParameter("a folder has no revisions", param_hint="--revision")
    place = (folder or Path()).expanduser().absolute()
    missing = _missing(place)
    if missing:
        raise typer.BadParameter(f"'{place}' has no {missing}", param_hint="--folder")
    return FolderSource(path=place)


def add_to_file(
    settings: Settings, name: str, *, source: FolderSource | HubSource, trust_remote_code: bool
) -> Path:
    """Write the model into the settings file, whole or not at all, and return the file's path.

    Raises `ConflictError` where there is a model of that name, and `SettingsError` where the
    file would not be taken with it.
    """
    if name in settings.catalogue:
        raise ConflictError(f"There is a model '{name}' already. Choose another name.")
    if not re.fullmatch(MODEL_NAME, name):
        raise SettingsError(
            f"'{name}' can be no model's name: give up to 128 letters, digits, '.', '_', '-' and "
            "'/', a letter or digit first."
        )
    file = (settings.settings or open_folder(settings.data) / "settings.toml").resolve()
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    after = before + ("\n" if before else "") + _entry(name, source, trust=trust_remote_code)
    _replace(file, after, data=settings.data)
    return file


def _missing(folder: Path) -> str | None:
    """Return what a model's folder lacks."""
    if not (folder / "config.json").is_file():
        return "config.json"
    if not any(any(folder.glob(pattern)) for pattern in _WEIGHTS):
        return "weights (*.safetensors)"
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        return "tokenizer (tokenizer.json)"
    return None


def _entry(name: str, source: FolderSource | HubSource, *, trust: bool) -> str:
    # What JSON writes between quotation marks, TOML reads.
    values = source.model_dump(mode="json", exclude_defaults=True) | {"kind": source.kind}
    shown = ", ".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
    code = "trust_remote_code = true\n" if trust else ""
    return f"[models.{json.dumps(name)}]\nsource = {{ {shown} }}\n{code}"


def _replace(file: Path, text: str, *, data: Path) -> None:
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=file.parent, prefix=".settings.", suffix=".toml", encoding="utf-8"
        ) as copy:
            copy.write(text)
            copy.flush()
            _check(Path(copy.name), file, data=data)
            if file.exists():
                Path(copy.name).chmod(file.stat().st_mode)
            os.fsync(copy.fileno())
            os.link(copy.name, f"{copy.name}.new")
            Path(f"{copy.name}.new").replace(file)
    except OSError as error:
        raise SettingsError(f"'{file}' cannot be written: {error.strerror}.") from None


def _check(copy: Path, file: Path, *, data: Path) -> None:
    """Raise `SettingsError`, with the name of `file`, where `copy` cannot be used in its place."""
    try:
        load_settings({"data": data, "settings": copy})
    except SettingsError as error:
        raise SettingsError(
            f"With this model, the settings cannot be used, and nothing is written: "
            f"{error.message.replace(str(copy), str(file))}"
        ) from None
