"""Records how wrong the estimates of finished jobs were, so that the next ones know better."""

from __future__ import annotations

from tunesmith.artifacts.runs import RunDirectory
from tunesmith.controller.doors import Doors
from tunesmith.domain.estimates import Estimate, Factors, factors_by
from tunesmith.domain.jobs import Job

_REMEMBERED = 100
"""The newest estimates among which that of a job is sought, and from which the next ones learn."""

_ENOUGH_SECONDS = 10
"""Seconds that the steps of a job must take together, since events are dated in whole ones."""


def record_pace(doors: Doors, job: Job) -> None:
    """Write how long the steps of `job`, which has succeeded, took beside the estimate of it.

    An estimate is of the job if it was asked for by the same request, in the same project.
    """
    measured = doors.store.measured_estimates(limit=_REMEMBERED)
    estimate = next((each for each in measured if _is_of(each, job)), None)
    if estimate is None:
        return
    seconds = _step_seconds(RunDirectory(doors.artifacts, job.id))
    if seconds is not None:
        taught = estimate.model_copy(update={"actual_step_seconds": seconds})
        doors.store.change_estimate(estimate, taught)


def known_factors(doors: Doors) -> Factors:
    """Return by how much jobs were quicker and slower than the estimates of them."""
    return factors_by(doors.store.measured_estimates(limit=_REMEMBERED))


def _is_of(estimate: Estimate, job: Job) -> bool:
    # A job that was launched again was not training all the time.
    return job.attempt == 1 and (estimate.project, *_asked(estimate.job)) == (
        job.project,
        *_asked(job),
    )


def _asked(job: Job) -> tuple[object, ...]:
    return job.model, job.training_file, job.validation_file, job.request


def _step_seconds(run: RunDirectory) -> float | None:
    """Return the seconds from one step to the next, all that lies between included."""
    told = [event for event in run.events(after=0) if event.metrics is not None]
    if len(told) < 2 or told[-1].created_at - told[0].created_at < _ENOUGH_SECONDS:
        return None
    return (told[-1].created_at - told[0].created_at) / (len(told) - 1)
