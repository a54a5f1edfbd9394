"""Tell which dialect a request or an answer on the shared routes is in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.ids import Dialect, is_file_id
from tunesmith.domain.jobs import Job
from tunesmith.domain.queue import Wait
from tunesmith.domain.values import Page
from tunesmith.protocol.jobs import CreateJob, JobObject
from tunesmith.protocol.opea import OpeaJobObject
from tunesmith.protocol.opea_create import SECTIONS, OpeaCreateJob
from tunesmith.protocol.reading import read_shape, shortened
from tunesmith.protocol.wire import Wire


class JobList(Wire):
    """A page of jobs, each in the shape of the dialect that it was created in."""

    object: Literal["list"] = "list"
    """Tells the kinds of objects apart."""
    data: list[JobObject | OpeaJobObject]
    """The jobs, newest first."""
    has_more: bool
    """Whether older ones follow."""


def job_to_wire(job: Job, wait: Wait | None = None) -> JobObject | OpeaJobObject:
    """Return `job` in the shape of the dialect that it was created in.

    OPEA's has no place for why it waits.
    """
    if job.dialect is Dialect.OPEA:
        return OpeaJobObject.to_wire(job)
    return JobObject.to_wire(job, wait)


def jobs_to_json(page: Page[Job], waits: Mapping[str, Wait]) -> str:
    """Return the `JobList` of `page` as JSON, with `waits` by the ids of the jobs that have one.

    The JSON of ended jobs is remembered: the store hands out the same values again, and to write
    a page of them anew is a good part of a list's work.
    """
    jobs = ",".join(
        _remembered(job) if job.status.terminal else _json(job, waits.get(job.id))
        for job in page.items
    )
    return f'{{"object":"list","data":[{jobs}],"has_more":{"true" if page.has_more else "false"}}}'


def _json(job: Job, wait: Wait | None = None) -> str:
    return job_to_wire(job, wait).model_dump_json()


_MOST_REMEMBERED = 5_000
"""Jobs whose JSON is kept, some 10 MB."""
_REMEMBERED: dict[int, tuple[Job, str]] = {}


def _remembered(job: Job) -> str:
    kept = _REMEMBERED.get(id(job))
    if kept is not None and kept[0] is job:
        return kept[1]
    if len(_REMEMBERED) >= _MOST_REMEMBERED:
        _REMEMBERED.clear()
    text = _json(job)
    # The job itself is kept beside its JSON, so that no other one can get its identity.
    _REMEMBERED[id(job)] = (job, text)
    return text


def dialect_of(body: Mapping[str, Any]) -> Dialect:
    """Return the dialect of a request for a job.

    It is OPEA's if it has one of OPEA's sections, or gives the training file by
    name instead of by id.
    """
    name = body.get("training_file")
    named = isinstance(name, str) and not is_file_id(name)
    return Dialect.OPEA if body.keys() & SECTIONS or named else Dialect.OPENAI


def read_create(body: Mapping[str, Any]) -> CreateJob | OpeaCreateJob:
    """Return the request for a job in its own dialect. Raises `InvalidRequestError`."""
    if dialect_of(body) is Dialect.OPENAI:
        return read_shape(CreateJob, body)
    name = str(body.get("training_file"))
    for key in ("method", "metadata"):
        if key in body and not body.keys() & SECTIONS:
            raise InvalidRequestError(
                f"'training_file' is {shortened(name)!r}, which is no file id (file-…), so the "
                f"request is read in OPEA's dialect, which has no '{key}'. Give a file id, or "
                f"leave '{key}' out.",
                param="training_file",
            )
    return read_shape(OpeaCreateJob, body)
