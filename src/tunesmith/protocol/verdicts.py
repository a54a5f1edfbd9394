"""The verdict on a job: whether its result does better than what the job started from."""

from __future__ import annotations

from typing import Literal, Self

from tunesmith.domain.jobs import Job
from tunesmith.domain.verdicts import Verdict
from tunesmith.protocol.wire import Wire

Outcome = Literal["better", "same", "worse"]
"""How the result compares."""


class VerdictOutcomeObject(Wire):
    """What a job shows of its verdict."""

    outcome: Outcome
    """`better`, `same` or `worse` than what the job started from, on held-out lines."""

    @classmethod
    def to_wire(cls, job: Job) -> Self | None:
        """Return the outcome of `job`, once there is one."""
        return None if job.verdict is None else cls(outcome=job.verdict.value)


class IntervalObject(Wire):
    """A number found on held-out lines."""

    value: float
    """The number."""
    low: float
    """Lower end of its 95 % bootstrap interval."""
    high: float
    """Upper end of it."""


class MeasureObject(Wire):
    """One number by which both are compared."""

    name: str
    """`loss`, `perplexity`, `token_accuracy`, `accuracy`, `mrr`, `exact_match` or
    `text_similarity`."""
    better: Literal["lower", "higher"]
    """Which is better."""
    baseline: IntervalObject
    """That of what the job started from."""
    tuned: IntervalObject
    """That of the result."""
    difference: IntervalObject
    """Tuned less baseline, on the same draws of lines."""


class HeldOutObject(Wire):
    """What both were measured on."""

    lines: int
    """Held-out lines."""
    tokens: int
    """Their learnt tokens; of pairs, and of queries with passages, all tokens."""


class BestCheckpointObject(Wire):
    """The checkpoint with the lowest held-out loss of those that are kept and were evaluated."""

    step: int
    """Its step."""
    name: str
    """Its name as a model."""
    loss: float
    """Its held-out loss."""


class WorseLineObject(Wire):
    """A line that the result does worse on."""

    line: int
    """Line of the validation file, or of the training file where a share of it is held out."""
    element: int
    """Number of the example in the file's array, from 1; 0 where the file is no array."""
    baseline_loss: float
    """Mean loss on it before, in nats."""
    tuned_loss: float
    """Mean loss on it now, in nats."""


class AnswerObject(Wire):
    """What was answered to a held-out line, always saying the likeliest token."""

    line: int
    """Line of the file, as in `worse_lines`."""
    element: int
    """Number of the example in the file's array, from 1; 0 where the file is no array."""
    question: str
    """What the user said last."""
    wanted: str
    """What the line has for an answer."""
    baseline: str
    """What the model that the job started from said."""
    tuned: str
    """What the result said."""


class GeneralTextObject(Wire):
    """One of the texts of general knowledge, the same for every job."""

    text: str
    """The text."""
    baseline_loss: float
    """Mean loss on it before, in nats."""
    tuned_loss: float
    """Mean loss on it now; where it rose, something was forgotten."""


class GateObject(Wire):
    """Whether the result took its name."""

    rule: Literal["better", "not_worse"]
    """What was asked for."""
    passed: bool
    """Whether it holds."""
    reason: str
    """By what, in a sentence."""


class VerdictObject(Wire):
    """How the result of a job compares with what the job started from, on held-out lines."""

    object: Literal["fine_tuning.job.verdict"] = "fine_tuning.job.verdict"
    """Tells the kinds of objects apart."""
    job_id: str
    """The job."""
    model: str
    """Name of the tuned model, which it has taken unless a gate was not passed."""
    baseline: str
    """Name of what the job started from."""
    outcome: Outcome
    """`better` where the 95 % interval of the loss's difference is below 0, `worse` where it is
    above, else `same`; with fewer than five lines always `same`."""
    held_out: HeldOutObject
    """What both were measured on."""
    measures: list[MeasureObject]
    """The numbers, the loss first."""
    best_checkpoint: BestCheckpointObject | None
    """The checkpoint with the lowest held-out loss of those that are kept and were evaluated."""
    worse_lines: list[WorseLineObject]
    """Lines whose loss rose, by how much, at most 100."""
    worse_count: int
    """How many rose at all."""
    answers: list[AnswerObject]
    """Answers to the first held-out lines, with `tuning.verdict.answers`."""
    general: list[GeneralTextObject]
    """What happened to general knowledge; empty in embedding and rerank."""
    gate: GateObject | None
    """Whether `tuning.gate` was passed; null without one."""

    @classmethod
    def to_wire(cls, job: Job, verdict: Verdict) -> Self:
        """Return the `verdict` on `job` as clients see it."""
        found = verdict.model_dump(mode="json", exclude={"result_step"})
        baseline = job.start_from.name if job.start_from else job.model
        return cls.model_validate({"job_id": job.id, "baseline": baseline, **found})
