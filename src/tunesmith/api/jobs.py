"""`/v1/fine_tuning/jobs`: create, list, retrieve, cancel, pause, resume; what a job tells."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.convertors import StringConvertor, register_url_convertor

from tunesmith.api.answers import WireRoute
from tunesmith.api.body import JsonBody
from tunesmith.api.creation import new_job
from tunesmith.api.event_stream import AskedStream
from tunesmith.api.idempotency import REPLAYED, REUSED, Idempotency
from tunesmith.api.openapi import json_body
from tunesmith.api.query import Labels
from tunesmith.api.services import Serviced
from tunesmith.api.streams import STREAM_ANSWERS
from tunesmith.protocol.dialects import JobList, dialect_of, job_to_wire, jobs_to_json, read_create
from tunesmith.protocol.events import CheckpointList, EventList, MetricsList
from tunesmith.protocol.jobs import CreateJob, JobObject
from tunesmith.protocol.opea import OpeaJobObject
from tunesmith.protocol.opea_create import OpeaCreateJob


class _JobIds(StringConvertor):
    """A job's id in a path. The names of OPEA's own routes beside it are none."""

    regex = "(?!(?:retrieve|cancel)$)[^/]+"


register_url_convertor("job", _JobIds())

router = APIRouter(route_class=WireRoute, prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"])
"""The routes of this resource."""

Limit = Annotated[int, Query(ge=1, le=1000)]
"""Rows of a page, 1 to 1000."""


async def _told_apart(request: Request, body: JsonBody) -> dict[str, Any]:
    """Remember the dialect of a request for a job, in which a refusal is written too."""
    request.state.dialect = dialect_of(body)
    return body


CreateBody = Annotated[dict[str, Any], Depends(_told_apart)]
"""A handler's parameter that receives the JSON object which asks for a job."""


@router.post(
    "",
    openapi_extra=json_body(CreateJob, OpeaCreateJob),
    responses=REUSED,
)
def create_job(
    services: Serviced, body: CreateBody, *, key: Idempotency, response: Response
) -> JobObject | OpeaJobObject:
    """Create a job, in either dialect; the answer is in the same one.

    With an `Idempotency-Key`, a repetition answers with the first request's job.
    """
    # A repetition answers with its job even where the request would be refused by now.
    first = services.store.job_of_key(key) if key else None
    if first is None:
        new = new_job(services, read_create(body))
        first = services.store.add_job(new, key=key)
        if first.id == new.id:
            return job_to_wire(first)
    response.headers[REPLAYED] = "true"
    return job_to_wire(first)


@router.get("", response_model=JobList)
async def list_jobs(
    services: Serviced, labels: Labels, *, limit: Limit = 20, after: str | None = None
) -> Response:
    """List jobs, newest first, each in the shape of its own dialect."""
    store = services.store
    page = await services.read(lambda: store.list_jobs(after=after, limit=limit, metadata=labels))
    waiting = [job.id for job in page.items if job.waits]
    waits = await services.read(lambda: store.waits(waiting)) if waiting else {}
    return Response(jobs_to_json(page, waits), media_type="application/json")


@router.get("/{job_id:job}")
async def retrieve_job(services: Serviced, job_id: str) -> JobObject:
    """Retrieve a job in OpenAI's shape."""
    job = await services.read(lambda: services.store.job(job_id))
    waits = await services.read(lambda: services.store.waits([job_id])) if job.waits else {}
    return JobObject.to_wire(job, waits.get(job_id))


@router.post("/{job_id}/cancel")
def cancel_job(services: Serviced, job_id: str) -> JobObject:
    """Cancel a job that has not ended."""
    return JobObject.to_wire(services.store.cancel_job(job_id, now=services.now()))


@router.post("/{job_id}/pause")
def pause_job(services: Serviced, job_id: str) -> JobObject:
    """Pause a queued or running job: it saves a checkpoint and frees its processors."""
    return JobObject.to_wire(services.store.pause_job(job_id))


@router.post("/{job_id}/resume")
def resume_job(services: Serviced, job_id: str) -> JobObject:
    """Put a paused job back into the queue, to go on from where it stopped."""
    return JobObject.to_wire(services.store.resume_job(job_id))


@router.get("/{job_id}/events", response_model=EventList, responses=STREAM_ANSWERS)
async def list_events(
    services: Serviced,
    stream: AskedStream,
    *,
    job_id: str,
    limit: Limit = 20,
    after: str | None = None,
) -> EventList | Response:
    """List a job's events, newest first; or stream them as they come, oldest first.

    Under `Accept: text/event-stream` they come as server-sent events, from the
    first on or from behind the header `Last-Event-ID`, until the job has ended.
    """
    if stream is not None:
        return stream
    store = services.store
    page = await services.read(lambda: store.list_events(job_id, after=after, limit=limit))
    return EventList.to_wire(page)


@router.get("/{job_id}/metrics")
async def list_metrics(
    services: Serviced, *, job_id: str, points: Annotated[int, Query(ge=10, le=10_000)] = 1000
) -> MetricsList:
    """Show a job's curves: the numbers of its steps, oldest first, at most `points` of them.

    Where there are more, the steps of each stretch with the lowest and the highest training loss
    are shown, and those that were evaluated.
    """
    store = services.store
    found = await services.read(lambda: store.job_metrics(job_id))
    return MetricsList.to_wire(found, most=points)


@router.get("/{job_id}/checkpoints")
async def list_checkpoints(
    services: Serviced, job_id: str, *, limit: Limit = 10, after: str | None = None
) -> CheckpointList:
    """List a job's checkpoints, newest first."""
    store = services.store
    page = await services.read(lambda: store.list_checkpoints(job_id, after=after, limit=limit))
    return CheckpointList.to_wire(page)
