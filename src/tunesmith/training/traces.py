"""Shows a run in its trace: a span for every few steps, with the numbers of the last of them."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.domain.clock import SystemClock
from tunesmith.tracing import add_span
from tunesmith.training.board import Point

STEPS_A_SPAN = 10
"""Steps that one span stands for: a long run would have more spans than anybody looks at."""


class TraceBoard:
    """A board whose run is a trace; it fails at nothing, since spans are sent aside."""

    name = "OpenTelemetry"
    place = "the trace"

    def __init__(self, *, every: int = STEPS_A_SPAN) -> None:
        """Make a span of `every` steps."""
        self._every = every
        self._clock = SystemClock()
        self._began = self._clock.now()
        self._points: list[Point] = []

    def open(self, history: Sequence[Point]) -> None:  # noqa: ARG002  a board's
        """Begin; what earlier attempts took has spans of theirs."""
        self._began = self._clock.now()

    def step(self, point: Point) -> None:
        """Count one step more."""
        self._points.append(point)
        if len(self._points) >= self._every:
            self.stopped()

    def stopped(self) -> None:
        """Make a span of the steps that have none yet."""
        if not self._points:
            return
        now, first, last = self._clock.now(), self._points[0], self._points[-1]
        steps = {"first_step": first.step, "last_step": last.step}
        add_span("steps", began=self._began, ended=now, **steps, **last.numbers)
        self._points, self._began = [], now

    def close(self, outcome: str) -> None:  # noqa: ARG002  a board's
        """Make the last span."""
        self.stopped()

    def mend(self, error: BaseException) -> str:  # noqa: ARG002  a board's
        """Return what is to be done about `error`."""
        return "See the collector's log."
