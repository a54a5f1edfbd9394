"""Base models of the catalogue and the models tuned from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from tunesmith.domain.projects import DEFAULT_PROJECT
from tunesmith.domain.values import Value

MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$"
"""What a base model may be called; no colon, since tuned names are split at colons."""


class FolderSource(Value):
    """A model folder in the format that `transformers` saves."""

    kind: Literal["folder"] = "folder"
    """Tells the sources apart."""
    path: Path
    """The folder's absolute path, at which each node of the cluster can read it."""

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        if not path.is_absolute():
            raise ValueError("the path must be absolute: the nodes work in folders of their own")
        return path


class HubSource(Value):
    """A model of the Hugging Face hub. A private one needs `HF_TOKEN` where Ray runs."""

    kind: Literal["hub"] = "hub"
    """Tells the sources apart."""
    repo: str
    """`owner/name`."""
    revision: str = "main"
    """Branch, tag or commit."""
    offline: bool = False
    """Use only what the node's hub cache already holds."""


class PackageSource(Value):
    """A GGUF file inside an installed Python package."""

    kind: Literal["package"] = "package"
    """Tells the sources apart."""
    package: str
    """The package's import name; it is located, never imported."""
    file: str
    """The GGUF file's path inside the package."""


Source = Annotated[FolderSource | HubSource | PackageSource, Field(discriminator="kind")]
"""Where a base model's weights come from."""


class CatalogueEntry(Value):
    """A base model that the operator offers."""

    name: Annotated[str, Field(pattern=MODEL_NAME)]
    """The name that clients give as `model`."""
    source: Source
    """Where its weights come from."""
    trust_remote_code: bool = False
    """Whether Python code that comes with the model may be run on the workers."""


class WholeModel(Value):
    """A tuned model or checkpoint all of whose weights were trained."""

    name: str
    """The tuned model or checkpoint."""
    key: str
    """Prefix under which `artifacts` holds its weights and its tokenizer."""


class StartingPoint(Value):
    """The tuned model or checkpoint that a job tunes on."""

    name: str
    """The tuned model or checkpoint."""
    base: str
    """Name of the base model that it was tuned from, at its very beginning."""
    key: str | None
    """Prefix under which `artifacts` holds its adapter; `None` where it is a whole model."""
    beneath: WholeModel | None = None
    """What stands in the base model's place: the whole model itself, or the one that its adapter
    was tuned on; `None` means the base model."""


class Permission(Value):
    """Lets another project use a tuned model or checkpoint."""

    id: str
    """`cp_…`."""
    model: str
    """Name of the tuned model or checkpoint."""
    project_id: str
    """The project that may use it."""
    created_at: int
    """Unix seconds."""
    project: str = DEFAULT_PROJECT
    """The project that the model belongs to; the store writes it."""


class TunedModel(Value):
    """The model that a succeeded job made; or a checkpoint of any job, seen as a model."""

    name: str
    """`ft:<base>:<organization>:<suffix>:<id>`; a checkpoint adds `:ckpt-step-<N>`."""
    base: str
    """Name of the base model."""
    job_id: str
    """The job that made it."""
    created_at: int
    """Unix seconds."""
    key: str
    """Prefix under which `artifacts` holds the adapter, or the whole model."""
    deleting: bool = False
    """Whether its deletion has begun: no job may start from it any more."""
    project: str = DEFAULT_PROJECT
    """The project that it belongs to; the store writes it."""
