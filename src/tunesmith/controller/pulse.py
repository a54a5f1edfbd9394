"""Whether the controller's loop goes round, for whoever starts one anew that stands still."""

from __future__ import annotations

import time
from collections.abc import Callable

STANDSTILL = 300.0
"""Seconds without a round from which on it stands still: longer than calls that are tried again."""


class Pulse:
    """Told of each round of the loop, by one thread, and asked by another."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        """Begin before the first round; `seconds` tells the time, from whatever zero."""
        self._seconds = seconds
        self._last: float | None = None

    def beat(self) -> None:
        """Note that another round begins."""
        self._last = self._seconds()

    def lack(self) -> str | None:
        """Return, in words, that no round has begun for long; `None` where one has.

        Before the first there is no haste: what brings a schema up is not to be broken off.
        """
        silent = 0.0 if self._last is None else self._seconds() - self._last
        if silent < STANDSTILL:
            return None
        return f"The controller's loop has stood still for {silent:.0f} s."
