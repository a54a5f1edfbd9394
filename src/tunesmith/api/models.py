"""`/v1/models`: base models of the catalogue and the models tuned from them."""

from __future__ import annotations

from fastapi import APIRouter

from tunesmith.api.answers import WireRoute
from tunesmith.api.codes import FORBIDDEN
from tunesmith.api.services import Serviced
from tunesmith.artifacts.exports import ExportDirectory
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.errors import ConflictError
from tunesmith.domain.ids import checkpoint_step
from tunesmith.protocol.models import ModelDeleted, ModelList, ModelObject

router = APIRouter(route_class=WireRoute, prefix="/v1/models", tags=["models"])
"""The routes of this resource."""


@router.get("")
def list_models(services: Serviced) -> ModelList:
    """List the catalogue's models, then tuned ones, newest first; jobs list their checkpoints."""
    base = [ModelObject.entry_to_wire(entry) for entry in services.catalogue.values()]
    tuned = [
        ModelObject.tuned_to_wire(model, organization=services.organization)
        for model in services.store.list_tuned_models()
    ]
    return ModelList(data=base + tuned)


@router.get("/{model:path}")
def retrieve_model(services: Serviced, model: str) -> ModelObject:
    """Retrieve the description of a base model, a tuned model or a checkpoint."""
    if model in services.catalogue:
        return ModelObject.entry_to_wire(services.catalogue[model])
    found = services.store.tuned_model(model)
    return ModelObject.tuned_to_wire(found, organization=services.organization)


@router.delete("/{model:path}")
def delete_model(services: Serviced, model: str) -> ModelDeleted:
    """Delete a tuned model with its job's checkpoints, or a checkpoint of a job that has ended."""
    if model in services.catalogue:
        raise ConflictError(
            f"'{model}' is a base model; the operator alone can take it out of the catalogue.",
            param="model",
            code=FORBIDDEN,
        )
    gone = services.store.retire_model(model)
    run = RunDirectory(services.artifacts, gone.job_id)
    step = checkpoint_step(gone.name)
    for each in run.checkpoint_steps() if step is None else [step]:
        run.drop_checkpoint(each)
    services.artifacts.delete(gone.key)
    for export in services.store.exports_of(model):
        ExportDirectory(services.artifacts, export.id).delete()
        services.store.delete_export(export.id)
    # The rows go last: without them, nobody would find bytes that were left behind.
    services.store.delete_model(model)
    return ModelDeleted(id=gone.name)
