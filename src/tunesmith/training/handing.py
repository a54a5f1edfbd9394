"""How a run is handed to a warm process: a socket of this machine's, for this user alone.

Messages are JSON, each in a line. The first has the arguments, the folder and the environment of
the process that hands over, and comes with its standard streams. The warm process answers with the
`pid` of the trainer, which waits for the word to go; at its end comes the `status`, as
`os.waitstatus_to_exitcode` has it.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.models.environment import ENVIRONMENT

_STREAMS = (0, 1, 2)
_MOST = 2**20
"""Bytes of a message."""


def address() -> Path:
    """Return where the warm process of this machine, user, cluster and install listens.

    Raises `OSError` where the folder is not this user's alone.
    """
    ours = (os.environ.get("RAY_ADDRESS", ""), sys.prefix, __file__)
    name = hashlib.sha256("\0".join(ours).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"tunesmith-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700:
        raise PermissionError(f"{folder} is not this user's alone; remove it")
    return folder / f"{name}.sock"


@contextmanager
def listening(path: Path) -> Iterator[socket.socket | None]:
    """Listen at `path` until the block's end; `None` where another process does so already."""
    with socket.socket(socket.AF_UNIX) as listener, suppress(FileNotFoundError):
        if _answers(path):
            yield None
            return
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen()
        owner = os.getpid()
        try:
            yield listener
        finally:
            if os.getpid() == owner:
                path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as line:
        return line.connect_ex(str(path)) == 0


@dataclass(frozen=True)
class Task:
    """What a run's process is to be like."""

    arguments: list[str]
    """Of the command line, without the program."""
    folder: str
    """The working folder."""
    environment: dict[str, str]
    """All variables."""
    streams: list[int]
    """Standard input, output and error."""

    @classmethod
    def own(cls, arguments: list[str]) -> Task:
        """Return the task of a process like this one, called with `arguments`."""
        return cls(arguments, str(Path.cwd()), {**os.environ}, list(_STREAMS))

    def become(self) -> None:
        """Let this process be like it."""
        from setproctitle import setproctitle  # noqa: PLC0415  `start` has no need of it

        # As much of it is seen as there is room for in the warm process's own command line.
        setproctitle(" ".join(["tunesmith.training", *self.arguments]))
        for stream, given in zip(_STREAMS, self.streams, strict=True):
            os.dup2(given, stream)
        self.close()
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment | ENVIRONMENT)
        sys.argv = ["tunesmith.training", *self.arguments]

    def close(self) -> None:
        """Close the streams here."""
        for given in self.streams:
            os.close(given)


class Line:
    """One end of a connection."""

    def __init__(self, end: socket.socket) -> None:
        """Talk over `end`."""
        self._end = end

    def send(self, message: dict[str, Any]) -> None:
        """Send a message. Raises `OSError` where nobody is there."""
        self._end.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> dict[str, Any] | None:
        """Wait for a message; `None` where the other end is gone."""
        return _message(self._end)

    def hand(self, task: Task) -> None:
        """Send `task` with its streams. Raises `OSError` where nobody is there."""
        content = {**vars(task), "streams": []}
        first, rest = b"\n", json.dumps(content).encode() + b"\n"
        socket.send_fds(self._end, [first], task.streams)
        self._end.sendall(rest)

    def take(self) -> Task:
        """Receive a task. Raises `ValueError` where none comes, `OSError` as `send` does."""
        self._end.settimeout(5)
        _, streams, _, _ = socket.recv_fds(self._end, 1, len(_STREAMS))
        content = _message(self._end)
        self._end.settimeout(None)
        if content is None or len(streams) != len(_STREAMS):
            for stream in streams:
                os.close(stream)
            raise ValueError("Nobody handed a run over.")
        return Task(**{**content, "streams": streams})

    def wait_for_go(self) -> bool:
        """Wait for the word to go; tell whether it came."""
        return self.receive() is not None

    def wait_for_end(self) -> None:
        """Return once the other end is gone."""
        while self._end.recv(1):
            pass

    def close(self) -> None:
        """Hang up."""
        self._end.close()


def _message(end: socket.socket) -> dict[str, Any] | None:
    text = bytearray()
    while not text.endswith(b"\n"):
        # Nothing follows a message before it is answered, so that no part of another is taken.
        part = end.recv(_MOST)
        if not part:
            return None
        text += part
    found: dict[str, Any] = json.loads(text)
    return found
