"""A warm process: it has imported what training needs, and forks a trainer for each run.

`python -m tunesmith.training.warm` stays on a node and waits; `start` hands it runs over a socket
of this machine's. Each run gets a process of its own, forked from one that has trained nothing, so
that no run finds anything of another. Output, environment and working folder are those of the
process that hands the run over; the run is stopped where that process is gone.
"""

from __future__ import annotations

import gc
import importlib
import os
import random
import select
import signal
import socket
import sys
import threading
from contextlib import suppress

from tunesmith.models.environment import ENVIRONMENT
from tunesmith.training.handing import Line, Task, address, listening

IMPORTED = ("tunesmith.training.run", "transformers.models.llama.modeling_llama")
"""Modules that a run needs; they import torch, transformers and peft."""

_PARENT_INTERVAL = 1.0
"""Seconds between two looks whether the process that started this one is there."""


def main() -> int:
    """Import all, then fork a trainer for each run that comes, until the parent is gone.

    In the trainer it returns too, with the run's exit code.
    """
    parent = os.getppid()
    # Threads of a library would not survive a fork.
    os.environ.update(ENVIRONMENT | {"OPENBLAS_NUM_THREADS": "1"})
    warm_up()
    gc.collect()
    # Pages that the collector does not touch stay shared with the trainers.
    gc.freeze()
    sys.stdout.write("This process is warm\n")
    sys.stdout.flush()
    with listening(address()) as listener:
        taken = None if listener is None else Server(listener, parent=parent).run()
    return 0 if taken is None else _train(*taken)


def warm_up() -> None:
    """Import what a run needs, and have libraries make what they make once and then keep."""
    for module in IMPORTED:
        importlib.import_module(module)
    # The first text that pyarrow takes makes it look for pandas; the first model that is loaded
    # makes transformers compile how weights of all models were renamed: 0.2 s each.
    importlib.import_module("pyarrow").array([""])
    with suppress(ImportError, AttributeError):
        # Nobody promises that it stays there, and nothing hangs on it.
        mapping = importlib.import_module("transformers.conversion_mapping")
        mapping.get_checkpoint_conversion_mapping("llama")
    found = importlib.import_module("tunesmith.training.kernels").found
    if found().lacking:
        # Each run looks again, so that who mends it need not start this process anew.
        found.cache_clear()


class Server:
    """Forks a trainer for each run, and tells how it ended."""

    def __init__(self, listener: socket.socket, *, parent: int) -> None:
        """Serve those who connect to `listener` while `parent` is the parent process."""
        self._listener = listener
        self._parent = parent
        self._lines: dict[int, Line] = {}

    def run(self) -> tuple[Line, Task] | None:
        """Serve until the parent is gone and return `None`; in a trainer, return what it is for."""
        woken, wake = socket.socketpair()
        for end in (woken, wake):
            end.setblocking(False)
        # A signal of a child that has ended ends the wait below.
        before = signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno())
        while os.getppid() == self._parent:
            ready, _, _ = select.select([self._listener, woken], [], [], _PARENT_INTERVAL)
            if woken in ready:
                woken.recv(4096)
                self._reap()
            if self._listener in ready and (taken := self._accept()) is not None:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, before)
                for end in (woken, wake, self._listener):
                    end.close()
                return taken
        return None

    def _accept(self) -> tuple[Line, Task] | None:
        """Fork a trainer for who has connected; return what it is for in the trainer alone."""
        with suppress(OSError, ValueError):
            line = Line(self._listener.accept()[0])
            task = line.take()
            pid = os.fork()
            if not pid:
                for other in self._lines.values():
                    other.close()
                return line, task
            task.close()
            self._lines[pid] = line
            line.send({"pid": pid})
        return None

    def _reap(self) -> None:
        while self._lines:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            line = self._lines.pop(pid)
            with suppress(OSError):
                line.send({"status": os.waitstatus_to_exitcode(status)})
            line.close()


def _train(line: Line, task: Task) -> int:
    """Become the process that `task` describes, and train."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    if not line.wait_for_go():
        return 1
    task.become()
    # All trainers would draw the same numbers.
    random.seed()
    threading.Thread(target=_follow, args=(line,), name="entrypoint", daemon=True).start()
    return int(importlib.import_module("tunesmith.training.__main__").main())


def _follow(line: Line) -> None:
    """Ask this process to stop once the one that has handed the run over is gone."""
    line.wait_for_end()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
