"""Why a job waits, as its own project sees it."""

from __future__ import annotations

from typing import Self

from tunesmith.domain.jobs import Job
from tunesmith.domain.queue import Holder, Wait
from tunesmith.protocol.wire import Wire


class HolderObject(Wire):
    """A job that holds what the queue waits for."""

    job: str | None
    """Its id; null where it is another project's."""
    resources: dict[str, float]
    """What it holds, by Ray's names of the resources; `memory` in bytes."""
    until: int | None
    """Unix seconds at which it should end, where that is known."""

    @classmethod
    def to_wire(cls, holder: Holder, *, project: str) -> Self:
        """Return `holder` as `project` sees it."""
        own = holder.project == project
        return cls(
            job=holder.job_id if own else None, resources=holder.resources, until=holder.until
        )


class QueueObject(Wire):
    """Why a job waits, as of a few seconds ago."""

    position: int
    """Its place in the queue, from 1, over all projects."""
    reason: str
    """Why it waits, for people."""
    missing: dict[str, float]
    """What it lacks on the node that comes nearest to holding it; empty where it waits for its turn
    alone."""
    held_by: list[HolderObject]
    """Who holds what the queue waits for, the first to end first; five at the most."""
    expected_start: int | None
    """Unix seconds at which it should start, where the running jobs tell as much."""

    @classmethod
    def to_wire(cls, job: Job, wait: Wait | None) -> Self | None:
        """Return `wait` as the project of `job` sees it; null unless the job waits."""
        if wait is None or not job.waits:
            return None
        return cls(
            position=wait.position,
            reason=wait.reason,
            missing=wait.missing,
            held_by=[HolderObject.to_wire(each, project=job.project) for each in wait.held_by],
            expected_start=wait.expected_start,
        )
