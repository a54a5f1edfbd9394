"""How the queue fares with 1,000 nodes and 10,000 jobs over a day: `make bench-queue`.

The controller itself works on a real store and a cluster of the mind (`cluster/fake.py`); only time
is simulated. Jobs of three priorities and twenty projects ask for 1 to 8 of a node's 8 processors
and run from minutes to hours; one in ten dies once, as its node might.

Ends with one line of JSON:

- `pass_median_s`, `pass_p99_s`, `pass_max_s`: seconds that a pass of the controller takes; below 1
  is wanted of each. There are two at each simulated minute.
- `memory_growth_mb`: what the process holds at the end less what it holds after the first hour.
- `ended`, `starved`: jobs that have succeeded, and those that have not begun within the day.
- `promises_broken`: jobs that were first in line until they began, and began later than they were
  told at first. A turn may pass to another project, whose share is due: such a promise is void.
  Jobs that die and come back break promises, which count on the ends that are told.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tunesmith.artifacts.memory import MemoryArtifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.cluster.fake import FakeCluster, empty_node
from tunesmith.cluster.protocol import SubmissionState
from tunesmith.controller.doors import Doors
from tunesmith.controller.launch import Launcher
from tunesmith.controller.loop import Controller, collect_seldom
from tunesmith.domain.clock import FakeClock
from tunesmith.domain.events import RunEvent, RunOutcome, StepMetrics
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.ids import Dialect
from tunesmith.domain.jobs import Job, JobStatus
from tunesmith.domain.models import CatalogueEntry, PackageSource
from tunesmith.domain.resolved import ResolvedHyperparameters
from tunesmith.domain.spec import PRIORITIES, JobRequest
from tunesmith.store.sql import SqlStore

PROJECTS, CPUS_OF_A_NODE, TICK, PASSES = 20, 8, 60, 2
DAY = 24 * 3600
ENTRY = CatalogueEntry(name="base", source=PackageSource(package="p", file="f"))
RESOLVED = ResolvedHyperparameters(
    examples=10, n_epochs=1, batch_size=1, learning_rate_multiplier=1.0, learning_rate=1e-4
)


@dataclass
class Course:
    """What becomes of one job in the simulation."""

    seconds: int
    """How long it runs."""
    dies: bool
    """Whether its first attempt dies in its middle."""
    ends: dict[int, float] = field(default_factory=dict)
    """When each attempt ends, by its number."""


class Simulation:
    """A day of a cluster."""

    def __init__(self, folder: Path, *, nodes: int, jobs: int, seed: int) -> None:
        """Fill the queue."""
        self._random = random.Random(seed)
        self._clock = FakeClock()
        self._cluster = FakeCluster()
        self._cluster.nodes = tuple(
            empty_node(f"node-{number}", cpus=CPUS_OF_A_NODE) for number in range(nodes)
        )
        self._artifacts = MemoryArtifacts()
        self._store = SqlStore.open(f"sqlite:///{folder}/tunesmith.db", self._clock)
        doors = Doors(self._store, self._cluster, self._artifacts, self._clock)
        launcher = Launcher(
            self._artifacts, location="/data", catalogue={"base": ENTRY}, keep_checkpoints=1
        )
        self._controller = Controller(doors, launcher, crash_retries=3)
        self._courses = {f"ftjob-{number}": self._add(number) for number in range(jobs)}
        self._alive: dict[str, tuple[Job, float]] = {}
        self._promised: dict[str, int] = {}
        self.passes: list[float] = []
        """Seconds of each pass."""
        self.broken = 0
        """Jobs that began later than they were promised when they came to be first in line."""

    def minute(self) -> None:
        """Let attempts end that are due, and make passes; in truth there are far more of them."""
        self._clock.advance(TICK)
        self._end_due()
        for _ in range(PASSES):
            began = time.perf_counter()
            self._controller.step()
            self.passes.append(time.perf_counter() - began)
            self._begin()
        self._note_promises()

    @property
    def statuses(self) -> Counter[JobStatus]:
        """How many jobs stand where."""
        found: Counter[JobStatus] = Counter(job.status for job in self._store.open_jobs())
        found[JobStatus.SUCCEEDED] = len(
            [job for job in self._store.jobs_ended_since(0) if job.status is JobStatus.SUCCEEDED]
        )
        return found

    def _add(self, number: int) -> Course:
        project = f"project-{self._random.randrange(PROJECTS)}"
        store = self._store.within(project)
        if (
            number < PROJECTS * 20
            and not store.list_files(purpose=None, after=None, limit=1, order="asc").items
        ):
            store.add_file(_file(project))
        seconds = int(min(max(self._random.lognormvariate(9.2, 1.0), 300), 12 * 3600))
        bounded = self._random.random() < 0.3
        request = JobRequest(
            cpus=self._random.choice((1, 2, 4, 8)),
            priority=self._random.choices(PRIORITIES, weights=(2, 7, 1))[0],
            max_run_seconds=2 * seconds + 3600 if bounded else None,
        )
        store.add_job(_job(number, project, request=request))
        return Course(seconds, dies=self._random.random() < 0.1)

    def _begin(self) -> None:
        now = self._clock.now()
        for job in self._store.open_jobs():
            if job.submission_open and job.submission_id not in self._alive:
                status = self._cluster.status(job.submission_id)
                if status is None or status.state is not SubmissionState.PENDING:
                    continue
                self._cluster.begin(job.submission_id)
                course = self._courses[job.id]
                left = max(course.seconds - job.run_seconds, TICK)
                self._alive[job.submission_id] = (job, now + left)
                self._write(job, metrics=_metrics(float(left)))

    def _end_due(self) -> None:
        now = self._clock.now()
        for submission_id, (job, end) in list(self._alive.items()):
            status = self._cluster.status(submission_id)
            if status is None or status.state.ended:
                del self._alive[submission_id]
                continue
            course = self._courses[job.id]
            if course.dies and now >= end - course.seconds / 2:
                course.dies = False
                self._cluster.end(submission_id, SubmissionState.FAILED, message="node died")
                del self._alive[submission_id]
            elif now >= end:
                self._write(job, outcome=RunOutcome(trained_tokens=1))
                self._artifacts.put(f"runs/{job.id}/metrics.csv", b"step\n1\n")
                self._cluster.end(submission_id, SubmissionState.SUCCEEDED)
                del self._alive[submission_id]

    def _note_promises(self) -> None:
        """Check each promise against the first minute at which its job no longer waits.

        Who is the first in line is looked up now and then: all waits are read for it.
        """
        waiting = {job.id for job in self._store.open_jobs() if job.waits}
        for job_id, promised in list(self._promised.items()):
            if job_id not in waiting:
                self.broken += self._clock.now() > promised + 2 * TICK
                del self._promised[job_id]
                continue
            # One that died and waits again has not been told its new place yet.
            wait = self._store.waits([job_id]).get(job_id)
            if wait is None or wait.position > 1:
                del self._promised[job_id]
        if self._clock.now() % (5 * TICK) < TICK:
            for wait in self._store.all_waits()[:1]:
                if wait.job_id in waiting and wait.expected_start is not None:
                    self._promised.setdefault(wait.job_id, wait.expected_start)

    def _write(self, job: Job, **fields: object) -> None:
        run = RunDirectory(self._artifacts, job.id)
        number = len(run.events(after=0)) + 1
        event = {"number": number, "created_at": int(self._clock.now()), "message": "m", **fields}
        run.append_event(RunEvent.model_validate(event))


def main() -> dict[str, float]:
    """Simulate, and print the figures as the last line."""
    arguments = _arguments()
    process = psutil.Process()
    collect_seldom()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        began = time.perf_counter()
        simulation = Simulation(
            Path(folder), nodes=arguments.nodes, jobs=arguments.jobs, seed=arguments.seed
        )
        print(
            f"{arguments.jobs} jobs were put into the queue in {time.perf_counter() - began:.0f} s"
        )
        after_first_hour = 0.0
        for minute in range(arguments.hours * 60):
            simulation.minute()
            if minute == 60:
                after_first_hour = process.memory_info().rss / 1e6
            if minute % 60 == 0:
                print(f"hour {minute // 60}: {dict(simulation.statuses)}", flush=True)
        growth = process.memory_info().rss / 1e6 - after_first_hour
        statuses, passes = simulation.statuses, simulation.passes
    figures = {
        "passes": len(passes),
        "pass_median_s": statistics.median(passes),
        "pass_p99_s": statistics.quantiles(passes, n=100)[98],
        "pass_max_s": max(passes),
        "memory_growth_mb": growth,
        "ended": statuses[JobStatus.SUCCEEDED],
        "starved": statuses[JobStatus.QUEUED],
        "promises_broken": simulation.broken,
    }
    print(json.dumps({name: round(figure, 4) for name, figure in figures.items()}))
    return figures


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the database is written")
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def _file(project: str) -> File:
    return File(
        id=f"file-{project}",
        filename="rows.jsonl",
        purpose=Purpose.FINE_TUNE,
        bytes=1,
        sha256="0",
        created_at=0,
        key=f"files/{project}",
    )


def _job(number: int, project: str, *, request: JobRequest) -> Job:
    return Job(
        id=f"ftjob-{number}",
        dialect=Dialect.OPENAI,
        created_at=0,
        status=JobStatus.QUEUED,
        model="base",
        training_file=f"file-{project}",
        training_filename="rows.jsonl",
        request=request,
        resolved=RESOLVED,
        seed=1,
        organization="org",
        project=project,
    )


def _metrics(seconds_left: float) -> StepMetrics:
    return StepMetrics(
        step=1,
        train_loss=1.0,
        train_mean_token_accuracy=0.5,
        total_steps=10,
        learning_rate=1e-4,
        tokens_per_second=100.0,
        seconds_left=seconds_left,
    )


if __name__ == "__main__":
    main()
