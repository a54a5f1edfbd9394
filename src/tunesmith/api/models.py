"""`/v1/models`: base models of the catalogue and the models tuned from them."""

from __future__ import annotations

from fastapi import APIRouter

from tunesmith.api.answers import WireRoute
from tunesmith.api.codes import FORBIDDEN
from tunesmith.api.services import Serviced
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.errors import ConflictError
from tunesmith.protocol.models import ModelDeleted, ModelList, ModelObject

router = APIRouter(route_class=WireRoute, prefix="/v1/models", tags=["models"])
"""The routes of this resource."""


@router.get("")
def list_models(services: Serviced) -> ModelList:
    """List all models: the catalogue's first, then tuned ones, newest first."""
    base = [ModelObject.entry_to_wire(entry) for entry in services.catalogue.values()]
    tuned = [
        ModelObject.tuned_to_wire(model, organization=services.organization)
        for model in services.store.list_tuned_models()
    ]
    return ModelList(data=base + tuned)


@router.get("/{model:path}")
def retrieve_model(services: Serviced, model: str) -> ModelObject:
    """Retrieve a model's description."""
    if model in services.catalogue:
        return ModelObject.entry_to_wire(services.catalogue[model])
    found = services.store.tuned_model(model)
    return ModelObject.tuned_to_wire(found, organization=services.organization)


@router.delete("/{model:path}")
def delete_model(services: Serviced, model: str) -> ModelDeleted:
    """Delete a tuned model with its adapter and the checkpoints of its run."""
    if model in services.catalogue:
        raise ConflictError(
            f"'{model}' is a base model; the operator alone can take it out of the catalogue.",
            param="model",
            code=FORBIDDEN,
        )
    gone = services.store.tuned_model(model)
    run = RunDirectory(services.artifacts, gone.job_id)
    for step in run.checkpoint_steps():
        run.drop_checkpoint(step)
    services.artifacts.delete(gone.key)
    # The rows go last: without them, nobody would find bytes that were left behind.
    services.store.delete_tuned_model(model)
    return ModelDeleted(id=gone.name)
