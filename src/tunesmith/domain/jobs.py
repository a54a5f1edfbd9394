"""Jobs, their statuses, and the one table that says which status may follow which."""

from __future__ import annotations

from enum import StrEnum

from tunesmith.domain.changes import Change
from tunesmith.domain.errors import ConflictError
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.ids import Dialect
from tunesmith.domain.models import StartingPoint
from tunesmith.domain.projects import DEFAULT_PROJECT
from tunesmith.domain.resolved import ResolvedHyperparameters, ResolvedTuning
from tunesmith.domain.spec import JobRequest
from tunesmith.domain.values import Value
from tunesmith.domain.verdicts import VerdictOutcome


class JobStatus(StrEnum):
    """Where a job stands, in OpenAI's words."""

    VALIDATING_FILES = "validating_files"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether nothing follows this status."""
        return not TRANSITIONS[self]


TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.VALIDATING_FILES: frozenset(
        {JobStatus.QUEUED, JobStatus.FAILED, JobStatus.CANCELLED}
    ),
    JobStatus.QUEUED: frozenset(
        {JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.FAILED, JobStatus.CANCELLED}
    ),
    # A run that lost its worker waits in the queue for the next attempt.
    JobStatus.RUNNING: frozenset(
        {
            JobStatus.QUEUED,
            JobStatus.PAUSED,
            JobStatus.SUCCEEDED,
            JobStatus.FAILED,
            JobStatus.CANCELLED,
        }
    ),
    # A run may have come to its end just before it was paused; what it says then counts.
    JobStatus.PAUSED: frozenset(
        {JobStatus.QUEUED, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED}
    ),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}
"""Which status may follow which; a terminal one is followed by none."""


class JobError(Value):
    """Why a job failed, in OpenAI's shape, and a mend for programs."""

    code: FailureCode
    """A stable code."""
    message: str
    """What went wrong, where, and the mend."""
    param: str | None = None
    """The request's field at fault, where there is one; of an option, its path in `JobRequest`."""
    change: Change | None = None
    """What another request would say instead to succeed, as far as anyone can know; `None` where no
    change of the request helps."""


class Job(Value):
    """A fine-tuning job as the store keeps it."""

    id: str
    """`ftjob-…` or, from OPEA's dialect, `ft-job-<uuid>`."""
    dialect: Dialect
    """The API it was created through."""
    created_at: int
    """Unix seconds."""
    status: JobStatus
    """Where it stands."""
    model: str
    """Name of the model that is tuned, as the request gave it."""
    start_from: StartingPoint | None = None
    """The tuned model or checkpoint that is tuned on; `None` means the base model itself."""
    training_file: str
    """File id."""
    training_filename: str
    """Name of the training file; OPEA's clients know it by this."""
    validation_file: str | None = None
    """File id of the held-out examples."""
    validation_filename: str | None = None
    """Name of the validation file."""
    request: JobRequest
    """What was asked for."""
    resolved: ResolvedHyperparameters | None = None
    """What each `"auto"` became; known once the files are validated."""
    tuning: ResolvedTuning | None = None
    """What else the request left open became; known once the job is launched."""
    seed: int
    """The seed in use: the request's, or one drawn at creation."""
    organization: str
    """The third part of the tuned model's name."""
    fine_tuned_model: str | None = None
    """The tuned model's name, once succeeded."""
    trained_tokens: int | None = None
    """Tokens that went through training, padding not counted, all epochs; known at the end."""
    finished_at: int | None = None
    """Unix seconds at which a terminal status was reached."""
    estimated_finish: int | None = None
    """Unix seconds at which the run should end, from its speed so far."""
    result_files: tuple[str, ...] = ()
    """File ids of the metrics tables."""
    error: JobError | None = None
    """Why it failed."""
    verdict: VerdictOutcome | None = None
    """How its result compares with what it started from; `None` until that was found, and where no
    example was held out."""
    attempt: int = 0
    """How many times it was launched."""
    crashes: int = 0
    """How many attempts ended without an outcome of their own."""
    submission_open: bool = False
    """Whether the latest attempt may still be alive on the cluster."""
    stopping: bool = False
    """Whether that attempt is to end, since the job was paused; a resumed job waits for it."""
    began_at: int | None = None
    """Unix seconds at which it began to run; `None` while it does not run."""
    run_seconds: int = 0
    """Seconds that it has run before, over all attempts."""
    run_events_seen: int = 0
    """Number of the last run event that was ingested."""
    traceparent: str | None = None
    """The span of the request that created it, as W3C's Trace Context writes it; `None` where
    nothing is traced."""
    project: str = DEFAULT_PROJECT
    """The project that it belongs to; the store writes it."""

    @property
    def base(self) -> str:
        """Name of the base model; with that of a tuned one, `model` is another."""
        return self.start_from.base if self.start_from else self.model

    @property
    def waits(self) -> bool:
        """Whether it is in the queue, with no attempt on the cluster."""
        return self.status is JobStatus.QUEUED and not self.submission_open

    @property
    def submission_id(self) -> str:
        """Name of the latest attempt on the cluster; launching is idempotent by it."""
        return f"{self.id}-{self.attempt}"


class JobChange(Value):
    """New values for a job's fields; only those that are named change."""

    status: JobStatus | None = None
    """The next status, which `TRANSITIONS` must allow."""
    resolved: ResolvedHyperparameters | None = None
    """See `Job.resolved`."""
    tuning: ResolvedTuning | None = None
    """See `Job.tuning`."""
    fine_tuned_model: str | None = None
    """See `Job.fine_tuned_model`."""
    trained_tokens: int | None = None
    """See `Job.trained_tokens`."""
    finished_at: int | None = None
    """See `Job.finished_at`."""
    estimated_finish: int | None = None
    """See `Job.estimated_finish`."""
    result_files: tuple[str, ...] = ()
    """See `Job.result_files`."""
    error: JobError | None = None
    """See `Job.error`."""
    verdict: VerdictOutcome | None = None
    """See `Job.verdict`."""
    attempt: int = 0
    """See `Job.attempt`."""
    crashes: int = 0
    """See `Job.crashes`."""
    submission_open: bool = False
    """See `Job.submission_open`."""
    stopping: bool = False
    """See `Job.stopping`."""


def apply_change(job: Job, change: JobChange) -> Job:
    """Return `job` with the fields that `change` names.

    Raises `ConflictError` where `TRANSITIONS` does not allow the new status. A
    job in a terminal status still gives up its submission, and nothing else.
    """
    fields = {name: getattr(change, name) for name in change.model_fields_set}
    if job.status.terminal and set(fields) - {"submission_open"}:
        raise ConflictError(
            f"Job '{job.id}' has already {_ENDED[job.status]}.", code="job_already_ended"
        )
    status = fields.get("status")
    if status is not None and status not in TRANSITIONS[job.status]:
        raise ConflictError(f"Job '{job.id}' cannot go from {job.status} to {status}.")
    return job.model_copy(update=fields)


_ENDED = {
    JobStatus.SUCCEEDED: "succeeded",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELLED: "been cancelled",
}
