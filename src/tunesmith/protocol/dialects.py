"""Tell which dialect a request or an answer on the shared routes is in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.ids import Dialect, is_file_id
from tunesmith.domain.jobs import Job
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

    @classmethod
    def to_wire(cls, page: Page[Job]) -> JobList:
        """Return `page` as clients see it."""
        return cls(data=[job_to_wire(job) for job in page.items], has_more=page.has_more)


def job_to_wire(job: Job) -> JobObject | OpeaJobObject:
    """Return `job` in the shape of the dialect that it was created in.

    The shapes of ended jobs are remembered: the store hands out the same values again, and to
    write a page of them anew would take most of a list's time.
    """
    seen, shown = _SHOWN.get(id(job), (None, None))
    if shown is not None and seen is job:
        return shown
    shown = OpeaJobObject.to_wire(job) if job.dialect is Dialect.OPEA else JobObject.to_wire(job)
    if job.status.terminal:
        if len(_SHOWN) >= _MOST_SHOWN:
            _SHOWN.clear()
        # The job itself is kept beside its shape, so that no other one can get its identity.
        _SHOWN[id(job)] = (job, shown)
    return shown


_MOST_SHOWN = 10_000
_SHOWN: dict[int, tuple[Job, JobObject | OpeaJobObject]] = {}


def read_create(body: Mapping[str, Any]) -> CreateJob | OpeaCreateJob:
    """Return the request for a job in its own dialect.

    It is OPEA's if it has one of OPEA's sections, or gives the training file by
    name instead of by id. Raises `InvalidRequestError`.
    """
    if body.keys() & SECTIONS:
        return read_shape(OpeaCreateJob, body)
    name = body.get("training_file")
    if not isinstance(name, str) or is_file_id(name):
        return read_shape(CreateJob, body)
    for key in ("method", "metadata"):
        if key in body:
            raise InvalidRequestError(
                f"'training_file' is {shortened(name)!r}, which is no file id (file-…), so the "
                f"request is read in OPEA's dialect, which has no '{key}'. Give a file id, or "
                f"leave '{key}' out.",
                param="training_file",
            )
    return read_shape(OpeaCreateJob, body)
