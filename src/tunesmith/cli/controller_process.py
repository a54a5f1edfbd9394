"""The controller as a child of the process that answers HTTP."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from tunesmith.settings import Settings

if TYPE_CHECKING:
    import uvicorn

RESTART_PAUSE = 1.0
"""Seconds before a controller that died is started again; doubled for each quick death."""
LONGEST_PAUSE = 10.0
"""Seconds that the pause grows to at the most."""
LEAVE_PATIENCE = 40.0
"""Seconds that the controller gets to end its jobs and Ray before it is killed."""

logger = logging.getLogger(__name__)


def new_holder() -> str:
    """Return a name for a lease that no other process has."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


class ControllerProcess:
    """The controller as a child process that is kept alive."""

    def __init__(self, settings: Settings) -> None:
        """Start nothing yet."""
        self._settings = settings
        # The child that is started again takes up the lease of the one that died.
        self._holder = new_holder()
        self._child: subprocess.Popen[bytes] | None = None
        self._leaving = threading.Event()
        self._lock = threading.Lock()

    def keep_alive(self, server: uvicorn.Server) -> None:
        """Start the child once `server` has started, and again whenever it dies."""
        while not server.started and not self._leaving.wait(0.01):
            pass
        pause = RESTART_PAUSE
        while not self._leaving.is_set():
            began = time.monotonic()
            end = self._run_one()
            lived = time.monotonic() - began
            pause = RESTART_PAUSE if lived > LONGEST_PAUSE else min(pause * 2, LONGEST_PAUSE)
            if not self._leaving.wait(pause):
                logger.error("The controller %s; it is started again.", end)

    def end(self) -> None:
        """Ask the child to leave, with its jobs and Ray where nobody stands by, and wait for it."""
        self._leaving.set()
        with self._lock:
            child = self._child
        if child is None:
            return
        child.terminate()
        try:
            child.wait(LEAVE_PATIENCE)
        except subprocess.TimeoutExpired:
            logger.warning("The controller did not end in %.0f s; killing it.", LEAVE_PATIENCE)
            child.kill()
            child.wait()

    def _run_one(self) -> str:
        """Start the child and wait for its end; return what became of it."""
        try:
            with self._lock:
                if self._leaving.is_set():
                    return "is needed no more"
                child = self._child = self._start()
        except OSError as error:
            # There is no memory or process for it now, or it died before it had its settings.
            return f"could not be started: {error}"
        return f"ended with code {child.wait()}"

    def _start(self) -> subprocess.Popen[bytes]:
        # A session of its own: a terminal's Ctrl-C reaches the API alone, which then ends the rest.
        child = subprocess.Popen(
            [sys.executable, "-m", "tunesmith.cli.serve", self._holder],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        if child.stdin is not None:
            child.stdin.write(self._settings.model_dump_json().encode() + b"\n")
            child.stdin.flush()
        return child
