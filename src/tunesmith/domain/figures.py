"""What the store tells those who watch the service: how many jobs there are, and how they do."""

from __future__ import annotations

from tunesmith.domain.jobs import JobStatus
from tunesmith.domain.liveness import SignOfLife
from tunesmith.domain.values import Value


class RunningFigures(Value):
    """How a running job does, by the last step that it told."""

    job_id: str
    """Which job."""
    project: str
    """Whose it is."""
    step: int
    """Its last optimizer step, from 1."""
    total_steps: int
    """Steps of the whole run."""
    train_loss: float
    """See `StepMetrics.train_loss`."""
    valid_loss: float | None
    """The newest held-out loss; `None` where the last step did not evaluate."""
    tokens_per_second: float
    """See `StepMetrics.tokens_per_second`."""


class Figures(Value):
    """How the service stands at one moment, over all projects."""

    jobs: dict[JobStatus, int]
    """How many jobs have each status; those with none are left out."""
    waiting: int
    """Jobs in the queue that have no attempt on the cluster."""
    head_since: int | None
    """Unix seconds of the last event of the job that is first in line: it has waited since then.
    `None` where nothing waits."""
    running: tuple[RunningFigures, ...]
    """The running jobs that have told a step, oldest first."""
    controller: SignOfLife | None
    """The controller's last sign of life."""
    standby: bool
    """Whether a second controller stands by."""
