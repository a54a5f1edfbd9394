"""Measures the jobs that clients ask estimates of, one at a time and in their order."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from tunesmith.artifacts.runs import RunDirectory
from tunesmith.cluster.protocol import Resources, SubmissionStatus
from tunesmith.controller.doors import Doors
from tunesmith.controller.growth import needed_for
from tunesmith.controller.launch import Launcher
from tunesmith.controller.paces import known_factors
from tunesmith.controller.places import Grant
from tunesmith.controller.recover import after_loss
from tunesmith.controller.room import Demand, Room
from tunesmith.controller.validate import FileChecks
from tunesmith.domain.errors import (
    ArtifactMissingError,
    ClusterUnavailableError,
    InvalidRequestError,
    NotFoundError,
    StaleJobError,
)
from tunesmith.domain.estimates import Estimate, EstimateStatus
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.files import File
from tunesmith.domain.jobs import JobError
from tunesmith.domain.verdicts import VerdictSpec

PATIENCE = 1800
"""Seconds behind which a measurement that does not end is given up."""

_log = logging.getLogger(__name__)


class Estimator:
    """Brings estimates from queued to their end. Each step is safe to repeat after a crash."""

    def __init__(self, doors: Doors, launcher: Launcher) -> None:
        """Work through `doors`; `launcher` makes submissions."""
        self._doors = doors
        self._launcher = launcher
        self._checks = FileChecks(doors.artifacts)
        self.needed: Mapping[str, int] = {}
        """How many nodes of each group the oldest estimate waits for, by the group's name."""

    def step(self, resources: Resources | None, *, held: bool = False) -> None:
        """Care for the oldest estimate, unless there are no `resources`: the cluster is silent.

        Where it is `held`, it is not launched.
        """
        estimates = self._doors.store.open_estimates()
        self._checks.drop_but({each.id for each in estimates})
        self.needed = {}
        if not estimates or resources is None:
            return
        oldest = estimates[0]
        try:
            self._care_for(oldest, resources, held=held)
        except (ClusterUnavailableError, StaleJobError):
            _log.debug("Estimate %s waits.", oldest.id)
        except (ArtifactMissingError, ValueError) as error:
            _log.exception("Estimate %s cannot be cared for.", oldest.id)
            message = f"What was measured cannot be read ({type(error).__name__}). See the log."
            self._end(oldest, error=JobError(code=FailureCode.INTERNAL_ERROR, message=message))

    def close(self) -> None:
        """Give up what still runs aside."""
        self._checks.close()

    def _care_for(self, estimate: Estimate, resources: Resources, *, held: bool) -> None:
        if estimate.status is EstimateStatus.RUNNING:
            self._watch(estimate)
        elif estimate.job.resolved is None:
            self._validate(estimate)
        elif not held:
            self._launch(estimate, resources)

    def _validate(self, estimate: Estimate) -> None:
        try:
            verdict = self._checks.verdict(estimate.job, self._files(estimate))
        except NotFoundError as error:
            self._end(estimate, error=_deleted(error))
            return
        if verdict is None:
            return
        if verdict.error is not None:
            self._end(estimate, error=verdict.error)
            return
        job = estimate.job.model_copy(update={"resolved": verdict.resolved, "attempt": 1})
        self._doors.store.change_estimate(estimate, estimate.model_copy(update={"job": job}))

    def _launch(self, estimate: Estimate, resources: Resources) -> None:
        job, run = estimate.job, RunDirectory(self._doors.artifacts, estimate.id)
        try:
            spec = self._launcher.freeze(job, self._files(estimate), resources=resources)
        except NotFoundError as error:
            self._end(estimate, error=_deleted(error))
            return
        except InvalidRequestError as error:
            code = FailureCode.RESOURCES_UNAVAILABLE
            failure = JobError(code=code, message=error.message, param=error.param)
            self._end(estimate, error=failure)
            return
        demand = Demand.of(Grant(spec.workers, spec.cpus), job.request)
        if Room.free(resources.nodes).placement(demand) is None:
            self.needed = needed_for(demand, resources)
            return
        # What only evaluates and tells is left out: nothing of it says how large a step is.
        alone = {
            "validation_file": None,
            "early_stopping": None,
            "gate": None,
            "verdict": VerdictSpec(),
            "integrations": (),
        }
        run.write_spec(spec.model_copy(update={"measured": True, **alone}))
        self._doors.cluster.submit(self._launcher.submission(job))
        started = {"status": EstimateStatus.RUNNING, "started_at": self._now()}
        self._doors.store.change_estimate(estimate, estimate.model_copy(update=started))

    def _watch(self, estimate: Estimate) -> None:
        submission = self._doors.cluster.status(estimate.job.submission_id)
        if submission is not None and not submission.state.ended:
            if self._now() > (estimate.started_at or 0) + PATIENCE:
                self._doors.cluster.stop(estimate.job.submission_id)
            return
        run = RunDirectory(self._doors.artifacts, estimate.id)
        outcomes = [event.outcome for event in run.events(after=0) if event.outcome]
        error = outcomes[-1].error if outcomes else _lost(estimate, submission)
        self._end(estimate, error=error)

    def _end(self, estimate: Estimate, *, error: JobError | None) -> None:
        """End the estimate, with what the run measured unless there is an `error`."""
        run = RunDirectory(self._doors.artifacts, estimate.id)
        changes = {
            "status": EstimateStatus.FAILED if error else EstimateStatus.SUCCEEDED,
            "finished_at": self._now(),
            "measurement": None if error else run.measurement(),
            "factors": known_factors(self._doors),
            "error": error,
        }
        self._doors.store.change_estimate(estimate, estimate.model_copy(update=changes))
        self._doors.artifacts.delete(run.prefix)

    def _files(self, estimate: Estimate) -> tuple[File, File | None]:
        job, store = estimate.job, self._doors.store
        validation = store.file(job.validation_file) if job.validation_file else None
        return store.file(job.training_file), validation

    def _now(self) -> int:
        return int(self._doors.clock.now())


def _deleted(error: NotFoundError) -> JobError:
    code = FailureCode.INVALID_TRAINING_FILE
    return JobError(code=code, message=error.message, param="training_file")


def _lost(estimate: Estimate, submission: SubmissionStatus | None) -> JobError:
    """Return why a run ended without an outcome."""
    recovery = after_loss(estimate.job, submission, retries=0)
    message = f"The measurement was lost: {recovery.reason} Ask for another estimate."
    return recovery.error or JobError(code=FailureCode.INTERNAL_ERROR, message=message)
