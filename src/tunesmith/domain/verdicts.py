"""The verdict on a job: whether its result does better on held-out lines than what it began with.

By the 95 % interval of the difference of the held-out loss, tuned less baseline:

| interval | outcome |
|---|---|
| all below 0 | `better` |
| all above 0 | `worse` |
| 0 within, or fewer than `FEWEST_LINES` | `same` |
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from tunesmith.domain.values import Value

FEWEST_LINES = 5
"""Held-out lines below which nothing is told apart."""

MOST_WORSE_LINES = 100
"""How many of the lines that became worse a verdict lists."""


class VerdictOutcome(StrEnum):
    """How what was tuned compares with the baseline, which is what the job started from."""

    BETTER = "better"
    SAME = "same"
    WORSE = "worse"


class Gate(StrEnum):
    """What the outcome has to be for the tuned model to take its name."""

    BETTER = "better"
    """Better."""
    NOT_WORSE = "not_worse"
    """Better or the same."""

    def passes(self, outcome: VerdictOutcome) -> bool:
        """Tell whether a model with `outcome` takes its name."""
        if self is Gate.BETTER:
            return outcome is VerdictOutcome.BETTER
        return outcome is not VerdictOutcome.WORSE


class VerdictSpec(Value):
    """What a verdict has beside what every one has."""

    answers: Annotated[int, Field(ge=0, le=256)] = 0
    """How many held-out lines, the first ones, baseline and tuned model are asked."""


class Interval(Value):
    """A number found on held-out lines."""

    value: float
    """The number."""
    low: float
    """Lower end of its 95 % bootstrap interval."""
    high: float
    """Upper end of it."""


class Measure(Value):
    """One number by which baseline and tuned model are compared."""

    name: str
    """`loss`, `perplexity`, `token_accuracy`, `accuracy`, `mrr`, `exact_match` or
    `text_similarity`."""
    better: Literal["lower", "higher"]
    """Which is better."""
    baseline: Interval
    """That of the baseline."""
    tuned: Interval
    """That of the tuned model."""
    difference: Interval
    """Tuned less baseline, on the same draws of lines."""


class HeldOut(Value):
    """What the comparison was made on."""

    lines: int
    """Lines."""
    tokens: int
    """Their learnt tokens; of pairs, and of queries with passages, all tokens."""


class ResultCheckpoint(Value):
    """The best of the checkpoints that are kept."""

    step: int
    """Its step."""
    name: str
    """Its name as a model."""
    loss: float
    """Its held-out loss."""


class WorseLine(Value):
    """A line that the tuned model does worse on."""

    line: int
    """Line of the file, from 1."""
    element: int
    """Number of the example in the file's array, from 1; 0 where the file is no array."""
    baseline_loss: float
    """Mean loss on it before, in nats."""
    tuned_loss: float
    """Mean loss on it now, in nats."""


class Answer(Value):
    """What was answered to a held-out line, always saying the likeliest token."""

    line: int
    """Line of the file, from 1."""
    element: int
    """Number of the example in the file's array, from 1; 0 where the file is no array."""
    question: str
    """What the user said last."""
    wanted: str
    """What the line has for an answer."""
    baseline: str
    """What the baseline said."""
    tuned: str
    """What the tuned model said."""


class GeneralText(Value):
    """One of the texts of general knowledge, which no job is about."""

    text: str
    """The text."""
    baseline_loss: float
    """Mean loss on it before, in nats."""
    tuned_loss: float
    """Mean loss on it now; where it rose, something was forgotten."""


class GateResult(Value):
    """Whether the tuned model took its name."""

    rule: Gate
    """What was asked for."""
    passed: bool
    """Whether it holds."""
    reason: str
    """By what, in a sentence."""


class Verdict(Value):
    """How the result of a job compares with what the job started from."""

    model: str
    """Name of the tuned model, which it has taken unless a gate was not passed."""
    outcome: VerdictOutcome
    """How it compares."""
    held_out: HeldOut
    """What both were measured on."""
    measures: tuple[Measure, ...]
    """The numbers, the loss first."""
    result_step: int
    """Step of the checkpoint that was measured, which is the result."""
    best_checkpoint: ResultCheckpoint | None
    """The one with the lowest held-out loss of the checkpoints that are kept and were evaluated."""
    worse_lines: tuple[WorseLine, ...]
    """Lines that became worse, by how much, at most `MOST_WORSE_LINES`."""
    worse_count: int
    """How many became worse."""
    answers: tuple[Answer, ...] = ()
    """Answers to the first held-out lines, where they were asked for."""
    general: tuple[GeneralText, ...] = ()
    """What happened to general knowledge; nothing in embedding and rerank."""
    gate: GateResult | None = None
    """Whether the gate was passed; `None` where there is none."""

    @property
    def loss(self) -> Measure:
        """The loss, on which the outcome hangs."""
        return self.measures[0]

    @property
    def passed(self) -> bool:
        """Whether the tuned model takes its name."""
        return self.gate is None or self.gate.passed

    def in_words(self) -> str:
        """Return the verdict as a sentence, without its end."""
        loss, count = self.loss, self.held_out.lines
        words = {
            VerdictOutcome.BETTER: "better than",
            VerdictOutcome.SAME: "neither better nor worse than",
            VerdictOutcome.WORSE: "worse than",
        }
        few = ", which are too few to tell" if count < FEWEST_LINES else ""
        became = "line became" if self.worse_count == 1 else "lines became"
        return (
            f"Verdict: {words[self.outcome]} what the job started from. On {count} held-out lines"
            f"{few}, the loss went from {loss.baseline.value:.4f} to {loss.tuned.value:.4f}, a "
            f"difference of {loss.difference.value:+.4f} (95 % interval "
            f"{loss.difference.low:+.4f} to {loss.difference.high:+.4f}); "
            f"{self.worse_count} {became} worse"
        )


def outcome_of(difference: Interval, *, lines: int) -> VerdictOutcome:
    """Return the outcome by the `difference` of the loss on so many `lines`."""
    if lines >= FEWEST_LINES and difference.high < 0:
        return VerdictOutcome.BETTER
    if lines >= FEWEST_LINES and difference.low > 0:
        return VerdictOutcome.WORSE
    return VerdictOutcome.SAME


def gate_result(gate: Gate, outcome: VerdictOutcome, *, loss: Measure, lines: int) -> GateResult:
    """Return whether `gate` is passed, with the `loss` on so many `lines` as the reason."""
    passed = gate.passes(outcome)
    difference = loss.difference
    wanted = "below 0" if gate is Gate.BETTER else "not above 0"
    few = (
        f"; {lines} held-out lines are fewer than the {FEWEST_LINES} that it takes to tell"
        if lines < FEWEST_LINES
        else ""
    )
    reason = (
        f"The held-out loss changed by {difference.value:+.4f} (95 % interval "
        f"{difference.low:+.4f} to {difference.high:+.4f}), and '{gate}' takes an interval that is "
        f"{wanted}{few}"
    )
    return GateResult(rule=gate, passed=passed, reason=reason)
