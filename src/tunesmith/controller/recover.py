"""What becomes of a job whose attempt ended without an outcome."""

from __future__ import annotations

import re

from tunesmith.cluster.protocol import SubmissionState, SubmissionStatus
from tunesmith.dataset.passages import longest_text
from tunesmith.domain.changes import first_change, in_words, less_memory
from tunesmith.domain.failures import (
    EXIT_DISK_FULL,
    EXIT_NO_DATA,
    EXIT_NODE_LOST,
    EXIT_WORKER_LOST,
    FailureCode,
)
from tunesmith.domain.hyperparameters import MAX_LENGTH
from tunesmith.domain.jobs import Job, JobError
from tunesmith.domain.spec import RANKED, RankingSpec
from tunesmith.domain.values import Value

_NODE_DIED = "its node has died"
"""How Ray says that a process is gone with its node."""


class Recovery(Value):
    """How a job goes on after its attempt was lost."""

    reason: str
    """What happened to the attempt, for the job's events."""
    crashed: bool = False
    """Whether the training process died by itself, which counts against the retries."""
    error: JobError | None = None
    """Why the job cannot go on; `None` if it is launched again."""


def after_loss(job: Job, submission: SubmissionStatus | None, *, retries: int) -> Recovery:
    """Return how `job` goes on, whose attempt the cluster calls `submission`.

    An attempt that the cluster forgot (its head died), that was stopped from
    outside or that lost a node, its own or one of its workers', is no fault of the job, and
    is repeated as often as it happens. One that died by itself is repeated `retries` times, as
    is one on a node that lacks the data folder: the next may be another.
    """
    if submission is None:
        return Recovery(reason=f"The cluster lost attempt {job.attempt}.")
    if submission.state is SubmissionState.STOPPED:
        return Recovery(reason=f"Attempt {job.attempt} was stopped from outside.")
    words = _without_log(submission.message)
    if re.search(rf"exit code {EXIT_NODE_LOST}\b", words):
        return Recovery(reason=f"A node of attempt {job.attempt} was lost.")
    if _NODE_DIED in words:
        return Recovery(reason=f"The node of attempt {job.attempt} was lost.")
    if re.search(rf"exit code {EXIT_DISK_FULL}\b", words):
        message = "The disk of the data folder is full. Free some space, then create the job anew."
        error = JobError(code=FailureCode.DISK_FULL, message=message)
        return Recovery(reason="The disk is full.", error=error)
    if re.search(rf"exit code {EXIT_NO_DATA}\b", words):
        return _without_data(job, submission.message, retries=retries)
    # Of a fault of its own, Ray tells the rest in many lines.
    first = words.partition("\n")[0]
    died = f"The training process of attempt {job.attempt} died ({first})."
    if re.search(rf"exit code {EXIT_WORKER_LOST}\b", words):
        died = f"A worker of attempt {job.attempt} died."
    if job.crashes < retries:
        return Recovery(reason=died, crashed=True)
    mends = less_memory(job.request, tokens=_longest(job), learning=True)
    error = JobError(
        code=FailureCode.WORKER_LOST,
        message=f"{died} It was launched {job.crashes + 1} times. Most often the node ran out of "
        f"memory. {in_words(mends)}",
        change=first_change(mends),
    )
    return Recovery(reason=died, error=error, crashed=True)


def _without_data(job: Job, message: str, *, retries: int) -> Recovery:
    told = re.search(r"Node .* does not have the data .*", message)
    reason = told[0] if told else "A node does not have the data folder: let all nodes share it."
    if job.crashes < retries:
        return Recovery(reason=reason, crashed=True)
    text = f"{reason} The job was launched {job.crashes + 1} times. Create it anew then."
    error = JobError(code=FailureCode.RESOURCES_UNAVAILABLE, message=text)
    return Recovery(reason=reason, error=error, crashed=True)


def _without_log(message: str) -> str:
    """Return the cluster's words without the lines of the log behind them, which the log has."""
    return message.partition(", last available logs")[0].strip()


def _longest(job: Job) -> int:
    """Return the tokens of the longest text that `job` may learn from."""
    if job.request.method in RANKED:
        return longest_text(job.request.ranking or RankingSpec(), method=job.request.method)
    return job.tuning.max_length if job.tuning else MAX_LENGTH
