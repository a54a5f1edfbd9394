"""Brings a base model of the catalogue to a folder on this node, once."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.domain.disk import disk_is_full
from tunesmith.domain.errors import ModelUnavailableError
from tunesmith.domain.models import (
    CatalogueEntry,
    FolderSource,
    HubSource,
    PackageSource,
    WholeModel,
)

_HUB_LEFT_OUT = ["*.gguf", "*.onnx", "*.msgpack", "*.h5", "*.tflite", "onnx/*", "original/*"]
"""Other formats of the same weights, which would be downloaded in vain."""


@dataclass(frozen=True)
class BaseModel:
    """A base model that is ready to be loaded."""

    folder: Path
    """Where its files are, in the format that `transformers` saves."""
    reference: str
    """The path or hub id under which the adapter's config names it."""
    revision: str | None = None
    """The commit, for a model of the hub."""


def bring(
    entry: CatalogueEntry, artifacts: Artifacts, *, announce: Callable[[str], None]
) -> BaseModel:
    """Return the base model of `entry`, preparing or downloading it where that is still to do.

    `announce` gets a sentence before anything that takes long. Raises `ModelUnavailableError`.
    """
    match entry.source:
        case FolderSource() as source:
            return _from_folder(entry, source)
        case HubSource() as source:
            return _from_hub(entry, source, announce=announce)
        case PackageSource() as source:
            return _from_package(entry, source, artifacts=artifacts, announce=announce)


def pinned(entry: CatalogueEntry, base: BaseModel) -> CatalogueEntry:
    """Return `entry` with the commit that `base` is, where its source is the hub."""
    if not isinstance(entry.source, HubSource) or base.revision is None:
        return entry
    source = entry.source.model_copy(update={"revision": base.revision})
    return entry.model_copy(update={"source": source})


def tuned(model: WholeModel, artifacts: Artifacts) -> BaseModel:
    """Return the tuned `model`, which stands in a base model's place.

    Raises `ModelUnavailableError`.
    """
    if not artifacts.exists(f"{model.key}/config.json"):
        raise ModelUnavailableError(
            f"The tuned model '{model.name}', whose weights are needed, is no longer there: it was "
            "deleted. Choose another one."
        )
    folder = artifacts.fetch_folder(model.key)
    return BaseModel(folder=folder, reference=str(folder))


def unavailable(entry: CatalogueEntry, why: str) -> ModelUnavailableError:
    """Return the error that says why the base model of `entry` cannot be used."""
    return ModelUnavailableError(f"The base model '{entry.name}' cannot be used: {why}")


def _from_folder(entry: CatalogueEntry, source: FolderSource) -> BaseModel:
    if not (source.path / "config.json").is_file():
        raise unavailable(
            entry,
            f"there is no config.json in the folder {source.path}. "
            "Mend the path in the model catalogue, or put the model there.",
        )
    return BaseModel(folder=source.path, reference=str(source.path))


def _from_hub(
    entry: CatalogueEntry, source: HubSource, *, announce: Callable[[str], None]
) -> BaseModel:
    announce(f"Fetching base model {source.repo} ({source.revision})")
    try:
        folder = huggingface_hub.snapshot_download(
            source.repo,
            revision=source.revision,
            local_files_only=source.offline,
            ignore_patterns=_HUB_LEFT_OUT,
        )
    except (OSError, ValueError) as error:
        if disk_is_full(error):
            raise
        mend = (
            "It is marked offline, so it must be in the hub cache of the node beforehand."
            if source.offline
            else "Check its name and revision in the model catalogue, HF_TOKEN and the network."
        )
        raise unavailable(
            entry, f"{source.repo} ({source.revision}) cannot be fetched. {mend} ({error})"
        ) from error
    # The hub's cache calls the folder of a snapshot by its commit.
    return BaseModel(folder=Path(folder), reference=source.repo, revision=Path(folder).name)


def _from_package(
    entry: CatalogueEntry,
    source: PackageSource,
    *,
    artifacts: Artifacts,
    announce: Callable[[str], None],
) -> BaseModel:
    weights = _packaged_file(entry, source)
    key = _prepared_key(entry, source, size=weights.stat().st_size)
    if not artifacts.exists(f"{key}/config.json"):
        announce(f"Preparing base model {entry.name} from the package {source.package}")
        _prepare(entry, weights, key=key, artifacts=artifacts)
    folder = artifacts.fetch_folder(key)
    return BaseModel(folder=folder, reference=str(folder))


def _packaged_file(entry: CatalogueEntry, source: PackageSource) -> Path:
    spec = importlib.util.find_spec(source.package)
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise unavailable(
            entry,
            f"the Python package '{source.package}' is not installed on this node. Install it.",
        )
    path = Path(folders[0]) / source.file
    if not path.is_file():
        raise unavailable(
            entry,
            f"the package '{source.package}' holds no file '{source.file}'. "
            "Mend the file's name in the model catalogue.",
        )
    return path


def _prepared_key(entry: CatalogueEntry, source: PackageSource, *, size: int) -> str:
    # The size tells an upgraded package's file from the one that was prepared before.
    digest = hashlib.sha256(f"{source.model_dump_json()} {size}".encode()).hexdigest()
    return f"models/{re.sub(r'[^A-Za-z0-9._-]', '-', entry.name)}-{digest[:8]}"


def _prepare(entry: CatalogueEntry, weights: Path, *, key: str, artifacts: Artifacts) -> None:
    with artifacts.scratch() as aside:
        folder = aside / "model"
        try:
            _convert(weights, folder)
        except (ValueError, NotImplementedError, KeyError) as error:
            raise unavailable(
                entry, f"{weights.name} is no GGUF file that can be read. ({error})"
            ) from error
        try:
            artifacts.put_folder(key, folder)
        except OSError:
            # Two runs may prepare the same model at once; whichever is first serves both.
            if not artifacts.exists(f"{key}/config.json"):
                raise


def _convert(weights: Path, folder: Path) -> None:
    """Save the GGUF file `weights`, dequantized to fp32, as a model folder."""
    loaded = AutoModelForCausalLM.from_pretrained(
        weights.parent, gguf_file=weights.name, dtype=torch.float32
    )
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # A model loaded from GGUF refuses to be saved as what it has become.
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(loaded.state_dict())
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name).save_pretrained(folder)
    # safetensors makes files for their owner alone; other users of the node read these too.
    for path in folder.iterdir():
        path.chmod(0o644)
