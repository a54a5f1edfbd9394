"""`/v1/fine_tuning/estimate`: what a job would take, before it is created."""

from __future__ import annotations

from fastapi import APIRouter

from tunesmith.api.answers import WireRoute
from tunesmith.api.creation import new_job
from tunesmith.api.jobs import CreateBody
from tunesmith.api.openapi import json_body
from tunesmith.api.services import Serviced
from tunesmith.domain.estimates import Estimate
from tunesmith.domain.ids import new_estimate_id
from tunesmith.protocol.dialects import read_create
from tunesmith.protocol.estimates import EstimateObject
from tunesmith.protocol.jobs import CreateJob
from tunesmith.protocol.opea_create import OpeaCreateJob

router = APIRouter(route_class=WireRoute, prefix="/v1/fine_tuning/estimate", tags=["fine-tuning"])
"""The routes of this resource."""


@router.post("", openapi_extra=json_body(CreateJob, OpeaCreateJob))
def create_estimate(services: Serviced, body: CreateBody) -> EstimateObject:
    """Measure what a job would take, by the request that would create it.

    The answer is at first `queued`: a few steps are taken where the job would run, as
    soon as that has room.
    """
    job = new_job(services, read_create(body))
    estimate_id = new_estimate_id()
    own = job.model_copy(update={"id": estimate_id})
    estimate = Estimate(id=estimate_id, created_at=services.now(), job=own)
    services.store.add_estimate(estimate)
    return EstimateObject.to_wire(estimate)


@router.get("/{estimate_id}")
def retrieve_estimate(services: Serviced, estimate_id: str) -> EstimateObject:
    """Retrieve an estimate, with what was measured once it has succeeded."""
    return EstimateObject.to_wire(services.store.estimate(estimate_id))
