"""Estimates of jobs: what a job would take, measured before it is created."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from tunesmith.domain.failures import FailureCode
from tunesmith.domain.jobs import Job, JobError
from tunesmith.domain.projects import DEFAULT_PROJECT
from tunesmith.domain.values import Value

Factors = tuple[float, float]
"""What the measured time of a step is multiplied by, for the steps of a job at the quickest and at
the slowest."""

USUAL_FACTORS: Factors = (0.8, 1.5)
"""Those that hold while too few jobs are known.

A job evaluates and saves too, and shares its node with others, so that it is slower sooner than
quicker.
"""

_KNOWN_JOBS = 3
"""As many finished jobs as it takes to know better."""

_BEYOND = 0.1
"""Share by which a job may be quicker or slower than all that are known."""


class EstimateStatus(StrEnum):
    """Where an estimate stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether nothing follows this status."""
        return self in (EstimateStatus.SUCCEEDED, EstimateStatus.FAILED)


class Measurement(Value):
    """What a run found that took two steps on its longest examples, and one on any."""

    peak_memory: int
    """Bytes that the training process held at most, the model's loading included; on another device
    than processors, those that tensors took there."""
    startup_seconds: float
    """From the start of the run to its first step: the model is loaded and the data read."""
    longest_step_seconds: float
    """A step on a batch of the longest examples."""
    step_seconds: float
    """A step on a batch of the average number of tokens."""
    steps: int
    """Optimizer steps of the whole job, if nothing ends it before."""

    def seconds(self, factors: Factors, *, limit: int | None) -> tuple[float, float]:
        """Return between how many seconds a job should take from the start of its training on.

        `limit` are the seconds of training behind which it ends by itself.
        """
        training = self.steps * self.step_seconds
        least, most = (
            self.startup_seconds + min(training * factor, limit or training * factor)
            for factor in factors
        )
        return least, most


class Estimate(Value):
    """An estimate of a job that is not created."""

    id: str
    """`ftestimate-…`; the job that is measured has the same one."""
    created_at: int
    """Unix seconds."""
    status: EstimateStatus = EstimateStatus.QUEUED
    """Where it stands."""
    job: Job
    """The job as it would be created; the store of jobs does not know it."""
    started_at: int | None = None
    """Unix seconds at which the measurement was submitted."""
    finished_at: int | None = None
    """Unix seconds at which it ended."""
    measurement: Measurement | None = None
    """What was measured, once succeeded."""
    factors: Factors = USUAL_FACTORS
    """By how much jobs were quicker and slower than their estimates, as known at the end of it."""
    actual_step_seconds: float | None = None
    """A step of the job that was created of the same request; `None` until one has succeeded."""
    error: JobError | None = None
    """Why nothing could be measured; where the job does not fit, with the setting that helps."""
    project: str = DEFAULT_PROJECT
    """The project that it belongs to; the store writes it."""

    @property
    def pace(self) -> float | None:
        """Return how many times as long as measured a step of the job took."""
        if self.measurement is None or self.actual_step_seconds is None:
            return None
        return self.actual_step_seconds / self.measurement.step_seconds

    @property
    def fits(self) -> bool | None:
        """Return whether the job fits into the memory of its node; `None` where it is not known."""
        if self.measurement is not None:
            return True
        lacks = (FailureCode.OUT_OF_MEMORY, FailureCode.WORKER_LOST)
        return False if self.error is not None and self.error.code in lacks else None


def factors_by(estimates: Iterable[Estimate]) -> Factors:
    """Return the factors that the jobs teach which followed upon `estimates`."""
    paces = [each.pace for each in estimates if each.pace is not None]
    if len(paces) < _KNOWN_JOBS:
        return USUAL_FACTORS
    return min(paces) * (1 - _BEYOND), max(paces) * (1 + _BEYOND)
