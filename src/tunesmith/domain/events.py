"""What happens to a job: the events clients see, and the ones a run writes."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from tunesmith.domain.jobs import JobError
from tunesmith.domain.values import Value
from tunesmith.domain.verdicts import VerdictOutcome


class EventLevel(StrEnum):
    """How serious an event is, in OpenAI's words."""

    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class EventType(StrEnum):
    """What an event carries, in OpenAI's words."""

    MESSAGE = "message"
    METRICS = "metrics"


class Event(Value):
    """An event as clients see it."""

    id: str
    """`ftevent-…`."""
    job_id: str
    """The job it belongs to."""
    created_at: int
    """Unix seconds."""
    level: EventLevel
    """How serious it is."""
    type: EventType
    """Whether `data` holds metrics."""
    message: str
    """One sentence for a person."""
    data: dict[str, Any] | None = None
    """The numbers behind the sentence."""


class Told(Value):
    """What a job has told behind some event of its own."""

    events: tuple[Event, ...]
    """The events, oldest first."""
    ended: bool
    """Whether nothing will ever follow behind them."""


class News(Value):
    """Which jobs have told something of late."""

    newest: int
    """Place of the newest event of all; they are numbered in the order of their coming."""
    job_ids: frozenset[str]
    """The jobs."""


class StepMetrics(Value):
    """The numbers of one optimizer step; OpenAI's names first, then ours."""

    step: int
    """Optimizer step, from 1."""
    train_loss: float
    """Mean over the step's whole batch, in nats: of the learnt tokens' cross-entropies, or of
    the losses of pairs or queries."""
    train_mean_token_accuracy: float
    """Share of the learnt tokens that were the model's first choice; of pairs, share of those
    whose chosen answer has the higher reward; in embedding and rerank, share of the queries whose
    right passage comes first."""
    valid_loss: float | None = None
    """The same loss on the held-out examples, at the steps that evaluate."""
    valid_mean_token_accuracy: float | None = None
    """The same share on the held-out examples."""
    rewards_chosen: float | None = None
    """Pairs: mean reward of the preferred answers, in nats: beta times what their log-probability
    gained since the start, or as the loss defines it; `None` for `orpo`, which has none."""
    rewards_rejected: float | None = None
    """Pairs: mean reward of the other answers, in nats."""
    rewards_margin: float | None = None
    """Pairs: mean of the first reward less the second, in nats."""
    mrr: float | None = None
    """Embedding and rerank: mean over the queries of 1 / rank of the right passage."""
    valid_mrr: float | None = None
    """The same mean on the held-out examples."""
    total_steps: int
    """Steps of the whole run."""
    learning_rate: float
    """The learning rate that this step used."""
    tokens_per_second: float
    """Tokens trained on per second of this step, padding not counted."""
    seconds_left: float
    """Time to the end of the run at the speed so far, in seconds."""


class RunOutcome(Value):
    """How a run ended, in its own words; a run that was killed has none."""

    error: JobError | None = None
    """Why it failed; `None` when it succeeded."""
    trained_tokens: int = 0
    """See `Job.trained_tokens`."""
    verdict: VerdictOutcome | None = None
    """See `Job.verdict`."""


class RunEvent(Value):
    """One numbered line of a run directory's event log, written by training."""

    number: int
    """Position in the log, from 1, without gaps; the reader goes on behind the last it saw."""
    created_at: int
    """Unix seconds."""
    level: EventLevel = EventLevel.INFO
    """How serious it is."""
    message: str
    """One sentence for a person."""
    metrics: StepMetrics | None = None
    """The numbers of a step, where the line reports one."""
    checkpoint: StepMetrics | None = None
    """The numbers at a checkpoint's step, where the line reports a checkpoint saved."""
    outcome: RunOutcome | None = None
    """The end of the run, where the line reports it."""
    data: dict[str, Any] | None = None
    """Further numbers."""


class Checkpoint(Value):
    """A saved state of a run that can be used as a model."""

    id: str
    """`ftckpt_…`."""
    job_id: str
    """The job it belongs to."""
    created_at: int
    """Unix seconds."""
    step: int
    """Optimizer step at which it was saved."""
    model: str
    """`<tuned model>:ckpt-step-<step>`."""
    metrics: StepMetrics
    """The numbers at its step."""
    key: str
    """Prefix under which `artifacts` holds its adapter, or the whole model."""
    deleting: bool = False
    """Whether its deletion has begun: no job may start from it any more."""


class LogLine(Value):
    """One line of a run's log."""

    end: int
    """Byte offset behind it, where the next line begins."""
    text: str
    """The line, without its end."""
