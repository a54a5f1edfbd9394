"""Sends points to a service in a thread of its own, and tries again where that fails."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Protocol

from tunesmith.training.board import Point, SilentError

_BATCH = 50
"""The most points that are sent at once."""

_MOST_WAITING = 100_000
"""The most points that wait for a service which does not answer."""

_PAUSES = (1.0, 60.0)
"""Seconds between two tries: the first pause, and the longest that it is doubled to."""


class Receiver(Protocol):
    """A run at a service. Sending a point twice shows it once."""

    def send(self, points: Sequence[Point]) -> None:
        """Show `points`."""

    def end(self, outcome: str) -> None:
        """Tell how the run ended."""


class Sender:
    """Sends points, in their order, while the caller goes on."""

    def __init__(
        self, connect: Callable[[], Receiver], *, final: tuple[type[Exception], ...]
    ) -> None:
        """Send to what `connect` returns, which is called in the thread.

        The errors of `final` do not pass: after one of them nothing is tried again.
        """
        self._connect = connect
        self._final = final
        self._waiting: deque[Point] = deque()
        self._outcome: str | None = None
        self._trouble: Exception | None = None
        self._told = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="sender", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, points: Sequence[Point]) -> None:
        """Send `points` as soon as it can be done.

        Raises `SilentError`, once, if the service does not take what was sent, `OverflowError` if
        too much waits for it, and an error that does not pass.
        """
        with self._changed:
            if len(self._waiting) + len(points) > _MOST_WAITING:
                raise OverflowError("Too many points wait to be sent.")
            self._waiting.extend(points)
            self._changed.notify_all()
        self._complain()

    def end(self, outcome: str, *, seconds: float) -> None:
        """Send what waits, then `outcome`, and return after `seconds` at the most.

        A service that does not answer is tried once more. Raises as `put` does, and `TimeoutError`
        if there was neither an answer nor an error.
        """
        with self._changed:
            self._outcome = outcome
            self._changed.notify_all()
        self._thread.join(seconds)
        self._complain()
        if self._thread.is_alive() and not self._told:
            raise TimeoutError("The service has not taken all in time.")

    def _complain(self) -> None:
        trouble = self._trouble
        if trouble is None or self._told:
            return
        self._told = True
        if isinstance(trouble, self._final):
            raise trouble
        raise SilentError from trouble

    def _work(self) -> None:
        receiver: Receiver | None = None
        pause, longest = _PAUSES
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._outcome)
                points = tuple(islice(self._waiting, _BATCH))
                outcome = self._outcome
            try:
                receiver = receiver or self._connect()
                if points:
                    receiver.send(points)
                elif outcome:
                    receiver.end(outcome)
                    return
            # The client's own errors, those of the network, and what a server answered.
            except Exception as error:  # noqa: BLE001  a loop's edge: it is tried again
                self._trouble = error
                if outcome or isinstance(error, self._final):
                    return
                with self._changed:
                    self._changed.wait_for(lambda: self._outcome, pause)
                pause = min(2 * pause, longest)
            else:
                self._trouble, pause = None, _PAUSES[0]
                with self._changed:
                    for _ in points:
                        self._waiting.popleft()
