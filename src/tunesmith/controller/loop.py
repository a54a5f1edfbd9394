"""The controller's loop: look at each open job, decide, act."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections import Counter as Counts
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prometheus_client import Counter, Histogram

from tunesmith.cluster.protocol import Cluster, Resources, SubmissionStatus
from tunesmith.controller.act import Actor
from tunesmith.controller.asks import Asks
from tunesmith.controller.decide import Seen, decide
from tunesmith.controller.doors import Doors
from tunesmith.controller.estimates import Estimator
from tunesmith.controller.exports import Exporter
from tunesmith.controller.ingest import Ingester
from tunesmith.controller.launch import Launcher
from tunesmith.controller.turns import Turns
from tunesmith.controller.warmth import Warmth
from tunesmith.domain.errors import (
    ArtifactMissingError,
    ClusterUnavailableError,
    ConflictError,
    LeaseLostError,
    NotFoundError,
    StaleJobError,
)
from tunesmith.domain.events import RunOutcome
from tunesmith.domain.jobs import Job
from tunesmith.domain.liveness import BEAT, CONTROLLER, SignOfLife
from tunesmith.domain.log_context import marked_logs

PAUSE = 0.25
"""Seconds between two passes; with Ray's own second or so, a cancelled job ends within 5 s."""

SHORT_PAUSE = 0.02
"""Seconds to the next pass where something has changed: what follows from it waits for that one.
Then each pause is twice as long as the one before, up to `PAUSE`."""

LAUNCHES = 20
"""Most jobs that a pass launches, so that no other job waits long for its turn to be cared for."""

FAULTS_BORNE = 20
"""Passes in a row, 5 s, in which a job's run directory may be unreadable before the job fails."""

_NEW_OBJECTS = 200_000
"""Objects that are made until the young ones are looked through; Python's own number is 700."""

PASS_SECONDS = Histogram(
    "tunesmith_controller_pass_seconds",
    "Seconds that the controller's passes over the open jobs took.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
"""A pass that takes more than `PAUSE` lets jobs wait."""

PASS_FAULTS = Counter(
    "tunesmith_controller_faults", "Passes that failed, and jobs that could not be cared for."
)
"""Each is in the log."""

logger = logging.getLogger(__name__)


class Controller:
    """Makes the world match the store. One controller at a time works on a store: who leads."""

    def __init__(
        self, doors: Doors, launcher: Launcher, *, crash_retries: int, warm: bool = False
    ) -> None:
        """Work through `doors`; launch a crashed job again `crash_retries` times.

        `warm` keeps a warm process on each node.
        """
        self._doors = doors
        self._crash_retries = crash_retries
        self._ingester = Ingester(doors.store, doors.artifacts)
        self._actor = Actor(doors, launcher=launcher, ingester=self._ingester)
        self._turns = Turns(doors)
        self._asks = Asks(doors.cluster)
        self._warmth = Warmth(doors.cluster) if warm else None
        self._estimator = Estimator(doors, launcher)
        self._exporter = Exporter(doors, location=launcher.location)
        self._reasons: dict[str, str] = {}
        self._faults: dict[str, int] = {}
        self._sign: SignOfLife | None = None
        self._last_held: str | None = None
        self._pause = PAUSE

    def run(self, stop: threading.Event, *, beat: Callable[[], None] = lambda: None) -> None:
        """Work until `stop` is set, or another leads by now; call `beat` before each pass.

        A fault in one pass is logged, and the next pass tries anew.
        """
        took = 0.0
        # A long pass is followed by a pause, so that no more than half of the time goes to passes.
        while not stop.wait(min(max(self._pause, took), PAUSE)):
            beat()
            self._pause = min(2 * self._pause, PAUSE)
            began = time.monotonic()
            try:
                with PASS_SECONDS.time():
                    self.step()
            except LeaseLostError:
                logger.warning("Another controller leads by now; this one leaves the rest to it.")
                break
            except Exception:
                PASS_FAULTS.inc()
                logger.exception("A pass of the controller failed; the next one tries again.")
            took = time.monotonic() - began
        self._actor.close()
        self._estimator.close()

    def step(self) -> None:
        """Make one pass over the open jobs, oldest first."""
        jobs = self._doors.store.open_jobs()
        self._reasons = {job.id: self._reasons.get(job.id, "") for job in jobs}
        self._faults = {job.id: self._faults.get(job.id, 0) for job in jobs}
        self._actor.drop_checks_but(jobs)
        held = self._held()
        view = self._look(jobs, held=held)
        self._give_sign(view.resources if view else None)
        # First, so that in a full queue an export has its turn as soon as a processor is free.
        self._exporter.step(view.resources if view else None, held=held)
        for job in jobs:
            if view is None or not view.lets_wait(job):
                with marked_logs(job=job.id):
                    self._turn_to(job, view)
        self._estimator.step(view.resources if view else None, held=held is not None)

    def _turn_to(self, job: Job, view: _View | None) -> None:
        """Care for one job; what goes wrong with it is logged."""
        try:
            self._care_for(job, view)
            self._faults[job.id] = 0
        except LeaseLostError:
            raise
        except (StaleJobError, ConflictError, NotFoundError):
            # Somebody changed the job under our hands; the next pass sees how it is now.
            logger.debug("Job %s changed meanwhile.", job.id)
        except ClusterUnavailableError as error:
            logger.warning("Job %s waits: %s", job.id, error.message)
        except Exception as error:  # noqa: BLE001  one job's fault stops no other job
            self._note_fault(job, error)

    def pause_all(self, *, patience: float) -> None:
        """Ask every attempt to end, and wait up to `patience` seconds for their checkpoints.

        Each job goes on from its checkpoint when a controller comes back. Raises
        `ClusterUnavailableError` where the cluster does not answer.
        """
        cluster = self._doors.cluster
        held = [job.submission_id for job in self._doors.store.open_jobs() if job.submission_open]
        for submission_id in held:
            cluster.stop(submission_id)
        deadline = time.monotonic() + patience
        while any(_alive(cluster, each) for each in held) and time.monotonic() < deadline:
            time.sleep(PAUSE)

    def _held(self) -> str | None:
        """Return why nothing new may be launched; `None` where it may. Its change is logged."""
        held = self._doors.disk.holds_back()
        if held is not None and self._last_held is None:
            logger.warning("Nothing is launched: %s", held)
        elif held is None and self._last_held is not None:
            logger.info("The disk has room again; jobs, exports and estimates are launched.")
        self._last_held = held
        return held

    def _look(self, jobs: list[Job], *, held: str | None) -> _View | None:
        """Return what the cluster shows now, and what is planned by it; `None` if it is silent.

        Attempts' states are read before their events: what they wrote before they ended is then
        seen.
        """
        cluster = self._doors.cluster
        try:
            resources = cluster.resources()
            statuses, odd = self._statuses([job for job in jobs if job.submission_open])
        except ClusterUnavailableError as error:
            if self._sign is None or self._sign.cluster_up:
                logger.warning("All jobs wait: %s", error.message)
            return None
        now = int(self._doors.clock.now())
        if self._warmth is not None:
            self._warmth.keep(resources.nodes, now=now)
        planned = self._turns.plan(jobs, resources, statuses=statuses, now=now, held=held)
        # What several need is added once: whoever is there first may have it.
        others = Counts(self._estimator.needed) | Counts(self._exporter.needed)
        self._asks.keep(Counts(planned.needed) | others, resources.coming, now=now)
        launching = frozenset(planned.admitted[:LAUNCHES])
        return _View(resources, statuses, odd, launching=launching, yielding=planned.yielding)

    def _statuses(self, jobs: list[Job]) -> tuple[dict[str, SubmissionStatus | None], set[str]]:
        """Return how the attempts of `jobs` stand, and the ids of those that cannot be told."""
        found: dict[str, SubmissionStatus | None] = {}
        odd: set[str] = set()
        for job in jobs:
            try:
                found[job.id] = self._doors.cluster.status(job.submission_id)
            except ClusterUnavailableError:
                raise
            except Exception as error:  # noqa: BLE001  one job's fault stops no other job
                odd.add(job.id)
                with marked_logs(job=job.id):
                    self._note_fault(job, error)
        return found, odd

    def _give_sign(self, resources: Resources | None) -> None:
        """Say that this controller is alive, now and then and when the cluster comes or goes."""
        now, up, last = int(self._doors.clock.now()), resources is not None, self._sign
        if last is not None and now < last.at + BEAT and up == last.cluster_up:
            return
        there = resources.there if resources else {}
        held = resources.held if resources else {}
        sign = SignOfLife(process=CONTROLLER, at=now, cluster_up=up, there=there, held=held)
        self._doors.store.give_sign(sign)
        self._sign = sign

    def _note_fault(self, job: Job, error: Exception) -> None:
        """Log the fault once; where it is the job's own and stays, fail the job."""
        self._faults[job.id] += 1
        if self._faults[job.id] == 1:
            PASS_FAULTS.inc()
            logger.error("Job %s cannot be cared for.", job.id, exc_info=error)
        own = isinstance(error, (ValueError, ArtifactMissingError))
        if own and self._faults[job.id] >= FAULTS_BORNE and not job.status.terminal:
            self._actor.give_up(job, error)

    def _outcome(self, job: Job) -> RunOutcome | None:
        """Bring in what an attempt wrote. Of an ended job, what cannot be read is let be."""
        if not job.submission_open:
            return None
        try:
            return self._ingester.ingest(job)
        except (ValueError, ArtifactMissingError):
            if job.status.terminal:
                return None
            raise

    def _care_for(self, job: Job, view: _View | None) -> None:
        seen = Seen(
            job=job,
            now=int(self._doors.clock.now()),
            resources=view.resources if view else None,
            submission=view.statuses.get(job.id) if view else None,
            outcome=self._outcome(job),
            admitted=view is not None and job.id in view.launching,
            yields=view is not None and job.id in view.yielding,
            crash_retries=self._crash_retries,
        )
        decision = decide(seen)
        if self._reasons[job.id] != decision.reason:
            logger.info("Job %s: %s (%s)", job.id, decision.verb, decision.reason)
            self._reasons[job.id] = decision.reason
            self._pause = SHORT_PAUSE
        self._actor.act(seen, decision)


def collect_seldom() -> None:
    """Let this process, a controller's, look for garbage in cycles but seldom.

    Ten thousand open jobs are kept from pass to pass; looking through all of them, as Python does
    after so many new objects as it is, makes the longest passes longer (`benchmarks/README.md`).
    """
    gc.set_threshold(_NEW_OBJECTS)


@dataclass(frozen=True)
class _View:
    """What a pass goes by besides the store."""

    resources: Resources
    statuses: Mapping[str, SubmissionStatus | None]
    odd: set[str]
    launching: frozenset[str]
    yielding: frozenset[str]

    def lets_wait(self, job: Job) -> bool:
        """Tell whether nothing is to be done with `job` but to wait for its turn."""
        return job.id in self.odd or (job.waits and job.id not in self.launching)


def _alive(cluster: Cluster, submission_id: str) -> bool:
    status = cluster.status(submission_id)
    return status is not None and not status.state.ended
