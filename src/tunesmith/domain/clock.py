"""The clock as a door, so that tests can turn it by hand."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> float:
        """Return the unix time in seconds."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Return the unix time in seconds."""
        return time.time()


class FakeClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        """Start at `start`, a unix time in seconds."""
        self._now = start

    def now(self) -> float:
        """Return the unix time in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock forward by `seconds`."""
        self._now += seconds
