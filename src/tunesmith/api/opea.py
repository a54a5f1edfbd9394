"""OPEA's own routes: retrieve, cancel and list the checkpoints of a job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import APIRouter

from tunesmith.api.answers import WireRoute
from tunesmith.api.body import JsonBody
from tunesmith.api.openapi import json_body
from tunesmith.api.services import Serviced
from tunesmith.domain.errors import NotFoundError
from tunesmith.protocol.opea import OpeaCheckpoint, OpeaJobId, OpeaJobObject
from tunesmith.protocol.reading import read_shape, shortened

router = APIRouter(route_class=WireRoute, tags=["opea"])
"""The routes that only OPEA's clients use."""

_MOST_CHECKPOINTS = 10_000
"""Most checkpoints that are listed; a run keeps far fewer."""

RETRIEVE = "/v1/fine_tuning/jobs/retrieve"
"""Path of OPEA's retrieve."""

CANCEL = "/v1/fine_tuning/jobs/cancel"
"""Path of OPEA's cancel."""

CHECKPOINTS = "/v1/finetune/list_checkpoints"
"""Path of OPEA's list of checkpoints."""

PATHS = frozenset({RETRIEVE, CANCEL, CHECKPOINTS})
"""The paths whose errors are in OPEA's shape."""


@router.post(RETRIEVE, openapi_extra=json_body(OpeaJobId))
def retrieve_job(services: Serviced, body: JsonBody) -> OpeaJobObject:
    """Retrieve a job in OPEA's shape."""
    with _job_id(body) as job_id:
        return OpeaJobObject.to_wire(services.store.job(job_id))


@router.post(CANCEL, openapi_extra=json_body(OpeaJobId))
def cancel_job(services: Serviced, body: JsonBody) -> OpeaJobObject:
    """Cancel a job that has not ended."""
    with _job_id(body) as job_id:
        return OpeaJobObject.to_wire(services.store.cancel_job(job_id, now=services.now()))


@router.post(CHECKPOINTS, openapi_extra=json_body(OpeaJobId))
def list_checkpoints(services: Serviced, body: JsonBody) -> list[OpeaCheckpoint]:
    """List a job's checkpoints, its final result first, then newest first."""
    with _job_id(body) as job_id:
        job = services.store.job(job_id)
        page = services.store.list_checkpoints(job_id, after=None, limit=_MOST_CHECKPOINTS)
    return OpeaCheckpoint.list_to_wire(job, page.items)


@contextmanager
def _job_id(body: JsonBody) -> Iterator[str]:
    """Yield the job's id that `body` names; a block that finds no such job says so as OPEA does."""
    job_id = read_shape(OpeaJobId, body).fine_tuning_job_id
    try:
        yield job_id
    except NotFoundError:
        message = f"Fine-tuning job '{shortened(job_id)}' not found!"
        raise NotFoundError(message, param="fine_tuning_job_id") from None
