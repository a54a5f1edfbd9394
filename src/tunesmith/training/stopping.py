"""Ends the process at once when asked, in mid-step too, without losing the last whole step.

A backward pass runs for seconds in native code, during which Python calls no
signal handler. So a thread of its own waits for the signal, saves, and leaves.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

_log = logging.getLogger(__name__)

EXIT_STOPPED = 143
"""Exit code of a run that was asked to end: 128 + SIGTERM, as shells count."""

_PATIENCE = 2.5
"""Seconds that a stop waits for a write in progress; Ray kills after 4 s."""

_FAREWELL = 0.5
"""Seconds that a stop waits at its end for those who are told of it."""

_PARENT_INTERVAL = 0.5
"""Seconds between two looks at the parent process."""


class StopFlag:
    """Ends the process between two writes, after saving what is to be saved."""

    def __init__(self, leave: Callable[[int], object] = os._exit) -> None:
        """Leave through `leave`, which gets the exit code."""
        self._leave = leave
        self._whole = threading.RLock()
        self._save: Callable[[], None] = _do_nothing
        self._tell: Callable[[], None] = _do_nothing

    def whole(self) -> AbstractContextManager[object]:
        """Return a context whose block is either done wholly before a stop, or not begun."""
        return self._whole

    def save_with(self, save: Callable[[], None]) -> None:
        """Call `save` at a stop; before this is called, a stop saves nothing."""
        self._save = save

    def tell_with(self, tell: Callable[[], None]) -> None:
        """Call `tell` at a stop, while all is saved; it may take little longer than that."""
        self._tell = tell

    def stop(self) -> None:
        """Save and leave with `EXIT_STOPPED`, at the latest when `_PATIENCE` has run out.

        The blocks of `whole()` are shut for good, so that nothing is written behind the end.
        """
        telling = threading.Thread(target=self._tell, name="farewell", daemon=True)
        telling.start()
        try:
            if self._whole.acquire(timeout=_PATIENCE):
                self._save()
        except Exception:  # noqa: BLE001  the process's edge: it ends in any case
            _log.exception("The last step could not be saved")
        finally:
            telling.join(_FAREWELL)
            logging.shutdown()
            self._leave(EXIT_STOPPED)


def watch_sigterm(stop: StopFlag) -> None:
    """Call `stop.stop` on SIGTERM; call this in the main thread before any other is started."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        signal.sigwait({signal.SIGTERM})
        _log.info("Asked to stop")
        stop.stop()

    threading.Thread(target=wait, name="sigterm", daemon=True).start()


def watch_parent(stop: StopFlag) -> None:
    """Call `stop.stop` once the parent process is gone, as a killed Ray leaves its jobs behind."""
    parent = os.getppid()

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_INTERVAL)
        _log.warning("The parent process is gone")
        stop.stop()

    threading.Thread(target=wait, name="parent", daemon=True).start()


def _do_nothing() -> None:
    """There is nothing to lose yet, and nobody to tell."""
