"""What shows a run somewhere else: a board, and what it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tunesmith.domain.events import StepMetrics
from tunesmith.domain.spec import TrainSpec

SUCCEEDED = "succeeded"
"""The outcome of a run that did not fail."""

_SHOWN = frozenset(
    {
        *("method", "beta", "max_length", "seed", "n_epochs", "max_steps", "batch_size"),
        *("learning_rate", "schedule", "warmup_ratio", "weight_decay", "max_grad_norm", "lora"),
        *("max_seconds", "optimizer", "ranking"),
    }
)
"""What of the spec a board shows as its config: nothing that names a path."""

_NO_CURVE = {"step", "total_steps", "seconds_left"}
"""What of a step's numbers makes no curve."""


@dataclass(frozen=True)
class Point:
    """The numbers of one optimizer step, as boards show them."""

    step: int
    """The step, from 1."""
    at: int
    """When they were told, in unix seconds; the same in each attempt."""
    numbers: dict[str, float]
    """Those that are known, by the names of `StepMetrics`."""

    @classmethod
    def of(cls, metrics: StepMetrics, *, at: int) -> Point:
        """Return the point of `metrics`, which were told at `at`."""
        return cls(metrics.step, at, metrics.model_dump(exclude=_NO_CURVE, exclude_none=True))


class SilentError(Exception):
    """A service does not answer, and is asked again; the cause says what happened."""


class Board(Protocol):
    """Shows a run. Whatever a call raises ends the board, but for `SilentError`."""

    name: str
    """The service, as a warning names it."""
    place: str
    """Where it shows the run, as a warning names it."""

    def open(self, history: Sequence[Point]) -> None:
        """Begin, or go on where an earlier attempt ended; `history` is what was told so far."""

    def step(self, point: Point) -> None:
        """Show one step more."""

    def stopped(self) -> None:
        """Tell that the process ends before the run; it has half a second, in any thread."""

    def close(self, outcome: str) -> None:
        """End with `outcome`: `SUCCEEDED`, or why the run failed."""

    def mend(self, error: BaseException) -> str:
        """Return what is to be done about `error`, for a warning."""


def config(spec: TrainSpec) -> dict[str, Any]:
    """Return the values of `spec` that tell runs apart."""
    shown = spec.model_dump(mode="json", include=set(_SHOWN))
    return {**shown, "base_model": spec.base_model.name, "fine_tuned_model": spec.tuned_model}


def flat_config(spec: TrainSpec) -> dict[str, str | int | float | bool]:
    """Return the same with no value inside another, under names such as `lora.rank`."""
    flat: dict[str, str | int | float | bool] = {}
    for name, value in config(spec).items():
        inner = value.items() if isinstance(value, dict) else ((None, value),)
        for below, each in inner:
            if each is not None:
                key = name if below is None else f"{name}.{below}"
                flat[key] = each if isinstance(each, str | int | float | bool) else str(each)
    return flat
