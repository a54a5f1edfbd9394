"""An estimate of a job before it is created, which OpenAI's API does not have."""

from __future__ import annotations

import math
from typing import Literal, Self

from tunesmith.domain.estimates import Estimate
from tunesmith.protocol.jobs import JobFailureObject
from tunesmith.protocol.wire import Wire


class IntervalObject(Wire):
    """Between what a figure should lie."""

    least: int
    """The lower end."""
    most: int
    """The upper end."""


class EstimateObject(Wire):
    """What a job would take, measured by a few of its steps on its own device."""

    object: Literal["fine_tuning.estimate"] = "fine_tuning.estimate"
    """Tells the kinds of objects apart."""
    id: str
    """`ftestimate-…`."""
    created_at: int
    """Unix seconds."""
    finished_at: int | None
    """Unix seconds at which the measurement ended."""
    status: Literal["queued", "running", "succeeded", "failed"]
    """Where the measurement stands; ask again until it is one of the last two."""
    model: str
    """Name of the model, as the request gave it."""
    training_file: str
    """Id of the training file."""
    fits: bool | None
    """Whether the job fits into the memory of its node; null while, or where, it is not known."""
    peak_memory_bytes: int | None
    """Most memory that the training process held, on a batch of the longest examples; on another
    device than processors, what tensors took there."""
    seconds_per_step: float | None
    """A step on a batch of the average number of tokens."""
    longest_step_seconds: float | None
    """A step on a batch of the longest examples."""
    steps: int | None
    """Optimizer steps of the whole job."""
    estimated_seconds: IntervalObject | None
    """Seconds from the start of training to its end."""
    estimated_finish: IntervalObject | None
    """Unix seconds at which it would end if training had started when the measurement ended."""
    actual_seconds_per_step: float | None
    """A step of a job that was created by the same request, once it has succeeded."""
    error: JobFailureObject | None
    """Why there is no measurement. Where the job does not fit, `change` is the part of a request
    that makes it smaller."""

    @classmethod
    def to_wire(cls, estimate: Estimate) -> Self:
        """Return `estimate` as clients see it."""
        job, found = estimate.job, estimate.measurement
        failed = job.model_copy(update={"error": estimate.error})
        seconds = found.seconds(estimate.factors, limit=job.request.max_seconds) if found else None
        return cls(
            id=estimate.id,
            created_at=estimate.created_at,
            finished_at=estimate.finished_at,
            status=estimate.status.value,
            model=job.model,
            training_file=job.training_file,
            fits=estimate.fits,
            peak_memory_bytes=found.peak_memory if found else None,
            seconds_per_step=found.step_seconds if found else None,
            longest_step_seconds=found.longest_step_seconds if found else None,
            steps=found.steps if found else None,
            estimated_seconds=_interval(seconds, start=0) if seconds else None,
            estimated_finish=_interval(seconds, start=estimate.finished_at or 0)
            if seconds
            else None,
            actual_seconds_per_step=estimate.actual_step_seconds,
            error=JobFailureObject.to_wire(failed),
        )


def _interval(seconds: tuple[float, float], *, start: int) -> IntervalObject:
    least, most = seconds
    return IntervalObject(least=start + math.floor(least), most=start + math.ceil(most))
