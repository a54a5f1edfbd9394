"""How the API ends: it may go on for a while in which `/ready` says so, then ends its requests."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn

logger = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """Ends upon a signal: at once for who presses Ctrl-C, behind a delay upon SIGTERM.

    Whoever sends requests here sees in the delay that this service is ending, and takes
    another. Then no connection is taken any more, and the requests in flight come to their end, as
    far as the limit of `config.timeout_graceful_shutdown` lets them.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        delay: float,
        drain: Callable[[], None],
        close: Callable[[], None],
    ) -> None:
        """Wait `delay` seconds; `drain` is called before them, and `close` behind them.

        Both are called in a signal handler or another thread, so they only note it.
        """
        super().__init__(config)
        self._delay = delay
        self._drain = drain
        self._close = close
        self._draining = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a second signal ends the delay."""
        first, self._draining = not self._draining, True
        self._drain()
        if first and sig == signal.SIGTERM and self._delay:
            logger.info("The service ends in %g s; /ready says so.", self._delay)
            timer = threading.Timer(self._delay, self._end, args=(sig, frame))
            timer.daemon = True
            timer.start()
        else:
            self._end(sig, frame)

    def _end(self, sig: int, frame: FrameType | None) -> None:
        # Streams would go on for as long as their jobs, and the server waits for its answers.
        self._close()
        super().handle_exit(sig, frame)
