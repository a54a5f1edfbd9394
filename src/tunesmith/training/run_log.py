"""The log of a run, which is there before torch is imported: that takes seconds, and threads."""

from __future__ import annotations

import logging
import socket
import threading

from tunesmith.artifacts.logs import LogFile
from tunesmith.artifacts.protocol import Artifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.clock import SystemClock
from tunesmith.domain.errors import ArtifactsUnavailableError, DiskFullError, StaleJobError
from tunesmith.domain.log_context import MaskingFormatter
from tunesmith.settings import environment_secrets


class LineFormatter(MaskingFormatter):
    """Names time (UTC), attempt, rank, node and level on each line, those of a traceback too.

    No line shows a secret that this node's environment holds.
    """

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, *, attempt: int, rank: int) -> None:
        """Write the lines of the process of `rank` in `attempt`, on this node."""
        super().__init__("%(message)s", environment_secrets())
        self._writer = f"attempt {attempt} rank {rank} node {socket.gethostname()}"

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of `record`."""
        head = f"{self.formatTime(record)} {self._writer} {record.levelname}"
        lines = super().format(record).splitlines() or [""]
        return "\n".join(f"{head} {line}" for line in lines)


class RunLog(logging.Handler):
    """Keeps what is logged as the file `log` of the run directory, behind earlier attempts' lines.

    Lines wait up to `interval` seconds, since each write is brought to the disk.
    """

    def __init__(
        self,
        run: RunDirectory,
        artifacts: Artifacts,
        *,
        attempt: int,
        rank: int = 0,
        interval: float = 1.0,
    ) -> None:
        """Write for the process of `rank` in `attempt`; several may write at the same time."""
        super().__init__()
        self._run = run
        self._file = LogFile(artifacts, run.job_id)
        self._attempt = attempt
        self._interval = interval
        self._clock = SystemClock()
        self._lines: list[str] = []
        self._written_at = 0.0
        self._waiting: threading.Timer | None = None
        self.setFormatter(LineFormatter(attempt=attempt, rank=rank))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self._lines += self.format(record).splitlines()
        left = self._written_at + self._interval - self._clock.now()
        if left <= 0:
            self.flush()
        elif self._waiting is None:
            # Whoever follows the log sees the last line too, though no other may come for long.
            self._waiting = threading.Timer(left, self.flush)
            self._waiting.daemon = True
            self._waiting.start()

    def flush(self) -> None:
        """Write the lines that wait; those of an attempt that was replaced are dropped.

        Where they cannot be written they wait on: a log is no reason for a run to end.
        """
        self.acquire()
        try:
            self._waiting = None
            self._written_at = self._clock.now()
            if self._lines and self._still_ours():
                self._file.append(self._lines)
            self._lines = []
        except (OSError, DiskFullError, ArtifactsUnavailableError):
            self._written_at = self._clock.now()
        finally:
            self.release()

    def _still_ours(self) -> bool:
        try:
            self._run.check_claim(self._attempt)
        except StaleJobError:
            return False
        return True
