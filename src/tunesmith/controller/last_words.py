"""Keeps what an attempt printed before it died, which its own log could not."""

from __future__ import annotations

import logging
import time

from tunesmith.artifacts.logs import LogFile
from tunesmith.controller.doors import Doors
from tunesmith.domain.errors import (
    ArtifactsUnavailableError,
    ClusterUnavailableError,
    DiskFullError,
)
from tunesmith.domain.jobs import Job
from tunesmith.domain.log_context import masked

_PRINTED = 200
"""The last lines of what was printed that are looked at."""

_LOGGED = 1000
"""The last lines of the log among which they may be already."""

_MARK = " driver printed: "

_log = logging.getLogger(__name__)


def keep_last_words(doors: Doors, job: Job) -> None:
    """Add to the log of `job` what its attempt printed last and the log does not have.

    A traceback of the interpreter's, or a library's last word, reaches no log of ours. Doing it
    again adds nothing. Where the cluster or the disk does not let us, the log stays as it is.
    """
    try:
        printed = doors.cluster.logs(job.submission_id, lines=_PRINTED)
        log = LogFile(doors.artifacts, job.id)
        words = masked(printed, doors.secrets).splitlines()
        known = _known(log, attempt=job.attempt)
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(doors.clock.now()))
        head = f"{at} attempt {job.attempt}{_MARK}"
        log.append(f"{head}{word}" for word in words if word.strip() and word not in known)
    except (ClusterUnavailableError, ArtifactsUnavailableError, DiskFullError, OSError) as error:
        _log.warning("The last words of %s cannot be kept: %s", job.submission_id, error)


def _known(log: LogFile, *, attempt: int) -> set[str]:
    """Return the last lines that `attempt` logged, or that were kept of what it printed."""
    logged = [line.text for line in log.last(_LOGGED).items]
    own = [text for text in logged if f" attempt {attempt} " in text]
    return {*own, *(text.partition(_MARK)[2] for text in own)}
