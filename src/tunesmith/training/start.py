"""The entrypoint of a run on one worker: it hands the run to a warm process, or else trains itself.

`python -m tunesmith.training.start` takes the arguments of `python -m tunesmith.training`, and has
its exit codes.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
from contextlib import suppress

from tunesmith.training.handing import Line, Task, address


def main() -> int:
    """Train the run that the command line names, and return the exit code."""
    status = hand_over(sys.argv[1:])
    if status is None:
        status = int(importlib.import_module("tunesmith.training.__main__").main())
    if status < 0:
        # Whoever started this process is to see that a signal has killed the run.
        with suppress(OSError):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def hand_over(arguments: list[str]) -> int | None:
    """Let a warm process train by `arguments`; `None` where there is none.

    Returns the exit code, or below 0 the number of the signal that has killed the run. SIGTERM is
    passed on to the run.
    """
    with suppress(OSError), socket.socket(socket.AF_UNIX) as end:
        end.connect(str(address()))
        line = Line(end)
        line.hand(Task.own(arguments))
        begun = line.receive()
        if begun is None:
            return None
        signal.signal(signal.SIGTERM, lambda *_: os.kill(begun["pid"], signal.SIGTERM))
        line.send({"go": True})
        ended = line.receive()
        return 1 if ended is None else int(ended["status"])
    return None


if __name__ == "__main__":
    sys.exit(main())
