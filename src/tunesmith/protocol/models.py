"""OpenAI's Model: base models of the catalogue and tuned ones."""

from __future__ import annotations

from typing import Literal, Self

from tunesmith.domain.models import CatalogueEntry, TunedModel
from tunesmith.protocol.wire import Wire


class ModelObject(Wire):
    """A model that jobs or clients can name."""

    id: str
    """Its name."""
    object: Literal["model"] = "model"
    """Tells the kinds of objects apart."""
    created: int
    """Unix seconds; 0 for a base model, whose age the catalogue does not know."""
    owned_by: str
    """`system` for a base model, the organization for a tuned one."""

    @classmethod
    def entry_to_wire(cls, entry: CatalogueEntry) -> Self:
        """Return a base model as clients see it."""
        return cls(id=entry.name, created=0, owned_by="system")

    @classmethod
    def tuned_to_wire(cls, model: TunedModel, *, organization: str) -> Self:
        """Return a tuned model as clients see it."""
        return cls(id=model.name, created=model.created_at, owned_by=organization)


class ModelList(Wire):
    """All models."""

    object: Literal["list"] = "list"
    """Tells the kinds of objects apart."""
    data: list[ModelObject]
    """The models: the catalogue's first, then tuned ones, newest first."""


class ModelDeleted(Wire):
    """The answer to a deletion."""

    id: str
    """The model that is gone."""
    object: Literal["model"] = "model"
    """Tells the kinds of objects apart."""
    deleted: Literal[True] = True
    """It is gone."""
