"""What a run says while it runs: numbered events, and the table of metrics."""

from __future__ import annotations

import csv
import io
import logging
from dataclasses import dataclass
from typing import Any, Literal

from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.clock import SystemClock
from tunesmith.domain.events import EventLevel, RunEvent, RunOutcome, StepMetrics
from tunesmith.training.group import ALONE, Group

_log = logging.getLogger(__name__)

METRICS_COLUMNS = (
    "step",
    "train_loss",
    "train_accuracy",
    "valid_loss",
    "valid_mean_token_accuracy",
    "train_mean_token_accuracy",
    "learning_rate",
    "tokens_per_second",
)
"""Columns of `metrics.csv`: OpenAI's in OpenAI's order, then ours."""

REWARD_COLUMNS = ("rewards_chosen", "rewards_rejected", "rewards_margin")
"""Further columns of a run on preference pairs."""

RANK_COLUMNS = ("mrr", "valid_mrr")
"""Further columns of a run on queries and passages."""


_LIMIT = "micro_batch_tokens"
"""Under this name an event says how many tokens a micro-batch has at most."""


@dataclass(frozen=True)
class Pass:
    """One way of some examples through the model."""

    step: int
    """The optimizer step, from 1, that it is a part of or comes after; 0 before the first."""
    kind: Literal["step", "evaluation", "reference"] = "step"
    """What it is for: to learn, to evaluate, or to measure the reference of pairs."""

    @property
    def learns(self) -> bool:
        """Whether a gradient is taken, which needs more memory."""
        return self.kind == "step"

    @property
    def name(self) -> str:
        """What messages call it."""
        match self.kind:
            case "step":
                return f"step {self.step}"
            case "evaluation":
                when = f"after step {self.step}" if self.step else "before the first step"
                return f"the evaluation {when}"
            case "reference":
                return "the pass that measures the reference"


class EventLog:
    """Writes a run's events, going on behind those of earlier attempts.

    Each step and each checkpoint is told once, however often it is gone through. The first rank
    tells; the others know what it has told, and write nothing.
    """

    def __init__(self, run: RunDirectory, attempt: int, *, group: Group = ALONE) -> None:
        """Mend and read the log of `run`. Raises `StaleJobError` as each write does."""
        self._run = run
        self.attempt = attempt
        """Number of the attempt that writes, from 1."""
        self._leads = group.leads
        self._clock = SystemClock()
        self.check_claim()
        events = group.first(self._read)
        self._number = len(events)
        self.steps = {event.metrics.step: event.metrics for event in events if event.metrics}
        """The numbers of each step told so far, by step."""
        self.told_at = {event.metrics.step: event.created_at for event in events if event.metrics}
        """When the numbers of each step were told, in unix seconds, by step."""
        self.checkpoints = {event.checkpoint.step for event in events if event.checkpoint}
        """The steps whose checkpoints were told so far."""
        told = (event.data for event in events if event.data)
        self._limits = [
            (Pass(data["step"], data.get("pass", "step")), data[_LIMIT])
            for data in told
            if _LIMIT in data
        ]

    def most_tokens(self, of: Pass) -> int | None:
        """Return the most tokens of a micro-batch of a pass; `None` if none was too large yet.

        All attempts go by what was told, so that they divide each batch alike. What a pass
        without gradient found too large binds no step: steps find out by themselves.
        """
        binding = (
            most
            for earlier, most in self._limits
            if earlier.step <= of.step and (earlier.learns or not of.learns)
        )
        return min(binding, default=None)

    def too_large(self, of: Pass, *, most: int) -> None:
        """Tell that from this pass on a micro-batch has at most `most` tokens."""
        kept = (
            "The batch is the same, and so is the result but for rounding and for what dropout "
            "leaves out"
            if of.learns
            else "The result is the same but for rounding"
        )
        self._append(
            f"A micro-batch of {of.name} did not fit into memory: from here on it has at most "
            f"{most} tokens, or one example. {kept}",
            level=EventLevel.WARN,
            data={"step": of.step, "pass": of.kind, _LIMIT: most},
        )
        self._limits.append((of, most))

    def check_claim(self) -> None:
        """Raise `StaleJobError` if another attempt has claimed the run."""
        if self._leads:
            self._run.check_claim(self.attempt)

    def message(
        self, text: str, *, level: EventLevel = EventLevel.INFO, data: dict[str, Any] | None = None
    ) -> None:
        """Tell a sentence, with the numbers behind it."""
        self._append(text, level=level, data=data)

    def once(self, text: str, *, data: dict[str, Any], level: EventLevel = EventLevel.INFO) -> None:
        """Tell a sentence with `data`, unless an earlier attempt told it."""
        if not any(event.data == data for event in self._run.events(after=0)):
            self._append(text, data=data, level=level)

    def step(self, metrics: StepMetrics) -> None:
        """Tell the numbers of a step, unless they were told before."""
        if metrics.step in self.steps:
            return
        at = self._append(
            f"Step {metrics.step}/{metrics.total_steps}: "
            f"training loss={metrics.train_loss:.4f}, {_accuracy(metrics)}"
            + (
                f", validation loss={metrics.valid_loss:.4f}"
                if metrics.valid_loss is not None
                else ""
            ),
            metrics=metrics,
        )
        self.steps[metrics.step] = metrics
        self.told_at[metrics.step] = at

    def checkpoint(self, metrics: StepMetrics) -> None:
        """Tell that the state after a step was saved, unless it was told before."""
        if metrics.step in self.checkpoints:
            return
        self._append(f"Checkpoint saved at step {metrics.step}", checkpoint=metrics)
        self.checkpoints.add(metrics.step)

    def outcome(self, outcome: RunOutcome) -> None:
        """Tell how the run ended; nothing follows."""
        if outcome.error is None:
            self._append("Training finished", outcome=outcome)
        else:
            self._append(outcome.error.message, level=EventLevel.ERROR, outcome=outcome)

    def table(self) -> bytes:
        """Return the steps told so far as CSV; unknown cells are empty.

        The columns are `METRICS_COLUMNS`, and behind them `REWARD_COLUMNS` where there are
        rewards, `RANK_COLUMNS` where there are ranks.
        """
        columns: tuple[str, ...] = METRICS_COLUMNS
        if any(metrics.rewards_margin is not None for metrics in self.steps.values()):
            columns += REWARD_COLUMNS
        if any(metrics.mrr is not None for metrics in self.steps.values()):
            columns += RANK_COLUMNS
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        for _, metrics in sorted(self.steps.items()):
            row = {**metrics.model_dump(), "train_accuracy": metrics.train_mean_token_accuracy}
            writer.writerow(row[column] for column in columns)
        return text.getvalue().encode()

    def _read(self) -> list[RunEvent]:
        self._run.mend_events()
        return self._run.events(after=0)

    def _append(self, message: str, **fields: Any) -> int:
        """Write an event, unless another rank leads; return when, in unix seconds."""
        now = int(self._clock.now())
        if not self._leads:
            return now
        self.check_claim()
        event = RunEvent(number=self._number + 1, created_at=now, message=message, **fields)
        self._run.append_event(event)
        self._number += 1
        _log.log(logging.getLevelNamesMapping()[event.level.value.upper()], "%s", message)
        return now


def _accuracy(metrics: StepMetrics) -> str:
    share = f"{metrics.train_mean_token_accuracy:.3f}"
    if metrics.mrr is not None:
        return f"right passages first={share}, mean reciprocal rank={metrics.mrr:.3f}"
    if metrics.rewards_margin is None:
        return f"token accuracy={share}"
    return f"reward accuracy={share}, reward margin={metrics.rewards_margin:.4f}"
