"""A cluster of one machine: a Ray head that this service starts, adopts and keeps alive."""

from __future__ import annotations

import errno
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith.cluster.head_process import Head, HeadFolder
from tunesmith.cluster.protocol import Resources, Submission, SubmissionStatus
from tunesmith.cluster.ray_jobs import RayJobs
from tunesmith.domain.errors import ClusterUnavailableError

_log = logging.getLogger(__name__)

_START_LIMIT = 90.0
"""Seconds after which a head that does not answer yet is given up."""
_READY_PERIOD = 0.25
"""Seconds between two questions whether the head is ready."""
_WATCH_PERIOD = 1.0
"""Seconds between two looks at a head that was ready."""
_RETRY_PAUSE = 5.0
"""Seconds between a start that failed and the next."""


class LocalRay:
    """Runs commands on a Ray head of its own.

    The head outlives this process, so that jobs go on while the service is down, and the
    next service that is started with the same folder adopts it. While there is no head that
    answers, each method of `Cluster` raises `ClusterUnavailableError`. When a head has died,
    every process that it had started is ended before the next one starts: where `status`
    says `None`, nothing of that submission runs any more.

    Of several processes with the same folder, only the one that leads starts or ends a head.
    """

    def __init__(
        self,
        folder: Path,
        *,
        dashboard: tuple[str, int | None] = ("127.0.0.1", None),
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        """Take the folder of the head's files (see `HeadFolder`); nothing is started yet.

        `dashboard` is the address and the port of a new head's dashboard, of any free port where
        there is none; `leads` tells whether this process is the one that leads.
        """
        self._folder = HeadFolder(folder)
        self._dashboard = dashboard
        self._leads = leads
        self._jobs: RayJobs | None = None
        self._reason = "Ray is starting."
        self._leaving = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="ray-head", daemon=True)

    def start(self) -> None:
        """Adopt the folder's head or start one, in the background; may be called once."""
        self._keeper.start()

    def shutdown(self) -> None:
        """End the head with all its processes and wait for them, about 3 s.

        Raises `ClusterUnavailableError` where another process leads by now.
        """
        self.detach()
        with self._leading():
            self._folder.end()

    def detach(self) -> None:
        """Leave the head running for the next service."""
        self._leaving.set()
        if self._keeper.is_alive():
            self._keeper.join()
        self._jobs = None
        self._reason = "Ray was left."

    def submit(self, submission: Submission) -> None:
        """Start `submission`; see `Cluster.submit`."""
        self._ready_jobs().submit(submission)

    def status(self, submission_id: str) -> SubmissionStatus | None:
        """Return how it stands; see `Cluster.status`."""
        return self._ready_jobs().status(submission_id)

    def stop(self, submission_id: str) -> None:
        """Ask it to end; see `Cluster.stop`."""
        self._ready_jobs().stop(submission_id)

    def logs(self, submission_id: str, *, lines: int = 1000) -> str:
        """Return what it has printed last; see `Cluster.logs`."""
        return self._ready_jobs().logs(submission_id, lines=lines)

    def resources(self) -> Resources:
        """Return what the machine has and what is free; see `Cluster.resources`."""
        return self._ready_jobs().resources()

    def _ready_jobs(self) -> RayJobs:
        jobs = self._jobs
        if jobs is None:
            raise ClusterUnavailableError(self._reason)
        return jobs

    def _keep(self) -> None:
        while not self._leaving.is_set():
            try:
                self._keep_one()
            except Exception as error:  # noqa: BLE001  a dead keeper would leave us without Ray
                self._reason = f"Ray cannot be started: {error}"
                _log.exception("Ray cannot be started; the next attempt follows.")
                self._leaving.wait(_RETRY_PAUSE)

    def _keep_one(self) -> None:
        """Have one head from its start to its death, or until this service leaves it.

        Raises `ClusterUnavailableError` where it does not come up.
        """
        with self._leading():
            head = self._folder.find() or self._folder.launch(*self._dashboard)
        jobs = RayJobs(head.address, python=sys.executable, token=self._folder.token())
        ready = self._wait_until_ready(head, jobs)
        if ready:
            self._jobs = jobs
            _log.info("Ray is ready at %s (process %d).", head.address, head.pid)
            self._wait_for_death(head)
            self._reason = "Ray died and is starting anew."
            self._jobs = None
        if self._leaving.is_set():
            return
        with self._leading():
            self._folder.end()
        if not ready:
            raise ClusterUnavailableError(f"it did not come up; '{self._folder.log}' says more.")
        _log.warning("Ray died and is started anew; '%s' says more.", self._folder.log)

    @contextmanager
    def _leading(self) -> Iterator[None]:
        """Open a block in which nobody else starts, adopts or ends the head.

        Raises `ClusterUnavailableError` where another process leads: it keeps the head by now.
        """
        with self._folder.locked():
            if not self._leads():
                raise ClusterUnavailableError("Another controller leads, and keeps Ray.")
            yield

    def _wait_until_ready(self, head: Head, jobs: RayJobs) -> bool:
        """Tell whether the head came to know its node, without which nothing can run."""
        limit = time.monotonic() + _START_LIMIT
        while time.monotonic() < limit and self._folder.alive(head):
            try:
                if jobs.resources().nodes:
                    return True
            except ClusterUnavailableError as error:
                _log.debug("Ray is not ready: %s", error)
            if self._leaving.wait(_READY_PERIOD):
                break
        return False

    def _wait_for_death(self, head: Head) -> None:
        while self._folder.alive(head) and _listens(head.dashboard_port):
            if self._leaving.wait(_WATCH_PERIOD):
                return


def _listens(port: int) -> bool:
    """Tell whether somebody listens; one who is too busy to accept does."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) != errno.ECONNREFUSED
