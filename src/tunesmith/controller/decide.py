"""What to do with a job, as a pure function of what was seen of it."""

from __future__ import annotations

from enum import StrEnum

from tunesmith.cluster.protocol import Resources, SubmissionState, SubmissionStatus
from tunesmith.controller.recover import Recovery, after_loss
from tunesmith.domain.events import RunOutcome
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.jobs import Job, JobError, JobStatus
from tunesmith.domain.values import Value

STOP_GRACE = 30
"""Seconds that a run gets to leave by itself after it has reported its outcome."""


class Seen(Value):
    """What the controller saw of one job, and of the world around it."""

    job: Job
    """The job as the store has it."""
    now: int
    """Unix seconds."""
    resources: Resources | None
    """What the cluster has; `None` if it did not answer, and then `submission` says nothing."""
    submission: SubmissionStatus | None = None
    """The latest attempt on the cluster; `None` if the cluster knows none of that id."""
    outcome: RunOutcome | None = None
    """How the run says that it ended."""
    admitted: bool = True
    """Whether it has its turn in the queue, and is to be launched now."""
    yields: bool = False
    """Whether it is to make room for a job of higher priority."""
    crash_retries: int
    """How often a job whose process died is launched again."""

    @property
    def cluster_up(self) -> bool:
        """Whether the cluster answered."""
        return self.resources is not None


class Verb(StrEnum):
    """What the controller can do with a job."""

    WAIT = "wait"
    VALIDATE = "validate"
    LAUNCH = "launch"
    SUBMIT = "submit"
    BEGIN = "begin"
    SUCCEED = "succeed"
    FAIL = "fail"
    REQUEUE = "requeue"
    STOP = "stop"
    RELEASE = "release"
    YIELD = "yield"


class Decision(Value):
    """What to do, and why."""

    verb: Verb
    """What to do."""
    reason: str
    """Why, for the log and, where the job's status changes, for its events."""
    error: JobError | None = None
    """With `FAIL`: why the job failed."""
    crashed: bool = False
    """With `REQUEUE`: whether the attempt died by itself, which counts against the retries."""


def decide(seen: Seen) -> Decision:
    """Return what to do with the job now."""
    job = seen.job
    if job.status.terminal:
        return _let_go(seen)
    if job.status is JobStatus.VALIDATING_FILES:
        return Decision(verb=Verb.VALIDATE, reason="The files have not been validated.")
    if job.status is JobStatus.QUEUED and not job.submission_open:
        return _launch(seen)
    if seen.outcome is not None:
        return _finish(seen, seen.outcome)
    if job.stopping or job.status is JobStatus.PAUSED:
        return _end_attempt(seen)
    return _follow(seen)


def _follow(seen: Seen) -> Decision:
    """Decide on an attempt that should be alive."""
    job = seen.job
    if _overdue(seen):
        return Decision(verb=Verb.FAIL, reason="Its time is over.", error=_deadline_exceeded(job))
    if not seen.cluster_up:
        return Decision(verb=Verb.WAIT, reason="The cluster does not answer.")
    if seen.submission is None and job.status is JobStatus.QUEUED:
        return Decision(verb=Verb.SUBMIT, reason="The attempt never reached the cluster.")
    if seen.submission is None or seen.submission.state.ended:
        return _recover(seen)
    if job.status is JobStatus.QUEUED and seen.submission.state is SubmissionState.RUNNING:
        return Decision(verb=Verb.BEGIN, reason="Training has begun.")
    if seen.yields and job.status is JobStatus.RUNNING:
        return Decision(verb=Verb.YIELD, reason="A job of higher priority needs its room.")
    return Decision(verb=Verb.WAIT, reason=f"The attempt is {seen.submission.state.lower()}.")


def _let_go(seen: Seen) -> Decision:
    job = seen.job
    if not seen.cluster_up:
        return Decision(verb=Verb.WAIT, reason="The cluster does not answer.")
    if seen.submission is None or seen.submission.state.ended:
        return Decision(verb=Verb.RELEASE, reason="The attempt has ended.")
    by_itself = job.error is None or job.error.code is not FailureCode.DEADLINE_EXCEEDED
    leaving = job.status is not JobStatus.CANCELLED and by_itself
    if leaving and seen.now < (job.finished_at or 0) + STOP_GRACE:
        return Decision(verb=Verb.WAIT, reason="The run is leaving by itself.")
    return Decision(verb=Verb.STOP, reason=f"The job is {job.status}.")


def _end_attempt(seen: Seen) -> Decision:
    """Bring the attempt of a paused job to its end, also where the job is resumed by now."""
    if not seen.job.submission_open:
        return Decision(verb=Verb.WAIT, reason="The job is paused.")
    if not seen.cluster_up:
        return Decision(verb=Verb.WAIT, reason="The cluster does not answer.")
    if seen.submission is None or seen.submission.state.ended:
        return Decision(verb=Verb.RELEASE, reason="The paused attempt has ended.")
    return Decision(verb=Verb.STOP, reason="The job was paused.")


def _launch(seen: Seen) -> Decision:
    if not seen.cluster_up:
        return Decision(verb=Verb.WAIT, reason="The cluster does not answer.")
    if not seen.admitted:
        return Decision(verb=Verb.WAIT, reason="It waits for its turn.")
    return Decision(verb=Verb.LAUNCH, reason="It has its turn, and fits.")


def _finish(seen: Seen, outcome: RunOutcome) -> Decision:
    if seen.job.status is JobStatus.QUEUED:
        return Decision(verb=Verb.BEGIN, reason="Training has begun.")
    if outcome.error is not None:
        return Decision(verb=Verb.FAIL, reason="The run reports a failure.", error=outcome.error)
    return Decision(verb=Verb.SUCCEED, reason="The run reports success.")


def _overdue(seen: Seen) -> bool:
    job = seen.job
    if job.request.max_run_seconds is None or job.began_at is None:
        return False
    return job.run_seconds + seen.now - job.began_at >= job.request.max_run_seconds


def _deadline_exceeded(job: Job) -> JobError:
    limit = job.request.max_run_seconds
    message = (
        f"The job has run for the {limit} seconds that it may. Its checkpoints are kept and can be "
        "tuned on. Allow more seconds, or fewer steps."
    )
    return JobError(
        code=FailureCode.DEADLINE_EXCEEDED,
        message=message,
        param="max_run_seconds",
        change={"max_run_seconds": None},
    )


def _recover(seen: Seen) -> Decision:
    recovery: Recovery = after_loss(seen.job, seen.submission, retries=seen.crash_retries)
    if recovery.error is not None:
        return Decision(verb=Verb.FAIL, reason=recovery.reason, error=recovery.error)
    return Decision(verb=Verb.REQUEUE, reason=recovery.reason, crashed=recovery.crashed)
