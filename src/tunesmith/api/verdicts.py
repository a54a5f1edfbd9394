"""`/v1/fine_tuning/jobs/{id}/verdict`: whether its result is better than what it started from."""

from __future__ import annotations

from fastapi import APIRouter

from tunesmith.api.answers import WireRoute
from tunesmith.api.codes import VERDICT_NOT_MADE
from tunesmith.api.services import Serviced
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.errors import ArtifactMissingError, NotFoundError
from tunesmith.domain.jobs import Job
from tunesmith.protocol.verdicts import VerdictObject

router = APIRouter(
    route_class=WireRoute, prefix="/v1/fine_tuning/jobs/{job_id}/verdict", tags=["fine-tuning"]
)
"""The routes of this resource."""


@router.get("")
def retrieve_verdict(services: Serviced, *, job_id: str) -> VerdictObject:
    """Compare a job's result with what it started from, on held-out lines."""
    job = services.store.job(job_id)
    try:
        verdict = RunDirectory(services.artifacts, job.id).verdict()
    except ArtifactMissingError:
        raise NotFoundError(
            f"There is no verdict on job '{job_id}', which is {job.status}. {_why(job)}",
            param="fine_tuning_job_id",
            code=VERDICT_NOT_MADE,
        ) from None
    return VerdictObject.to_wire(job, verdict)


def _why(job: Job) -> str:
    if job.validation_file is None and not job.request.held_out_percent:
        return (
            "It holds no examples out: give a 'validation_file', or set 'tuning.held_out_percent'."
        )
    if job.status.terminal:
        return "It ended before one was made."
    return "It is made at the end of training; ask again then."
