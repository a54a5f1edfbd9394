"""A controller among fakes, for the tests of the controller."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stores import fresh_store
from tunesmith.artifacts.memory import MemoryArtifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.cluster.fake import FakeCluster
from tunesmith.controller.doors import Doors
from tunesmith.controller.launch import Launcher
from tunesmith.controller.loop import Controller
from tunesmith.domain.clock import FakeClock
from tunesmith.domain.disk import Disk
from tunesmith.domain.events import RunEvent, RunOutcome, StepMetrics
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.ids import Dialect
from tunesmith.domain.jobs import Job, JobStatus
from tunesmith.domain.liveness import CONTROLLER
from tunesmith.domain.models import CatalogueEntry, PackageSource
from tunesmith.domain.spec import JobRequest
from tunesmith.store.sql import SqlStore

RETRIES = 2
ENTRY = CatalogueEntry(name="base", source=PackageSource(package="p", file="f"))


def step_metrics(step: int, *, seconds_left: float = 0.0) -> StepMetrics:
    return StepMetrics(
        step=step,
        train_loss=1.0,
        train_mean_token_accuracy=0.5,
        total_steps=10,
        learning_rate=1e-4,
        tokens_per_second=100.0,
        seconds_left=seconds_left,
    )


@dataclass
class World:
    """A controller among fakes, and the hands to move them."""

    clock: FakeClock = field(default_factory=FakeClock)
    cluster: FakeCluster = field(default_factory=FakeCluster)
    artifacts: MemoryArtifacts = field(default_factory=MemoryArtifacts)
    jobs_made: int = 0
    free: int = 2**40
    """Bytes that the disk of the data folder has free."""

    def __post_init__(self) -> None:
        self.store = fresh_store(self.clock)
        self.disk = Disk(Path("/data"), floor=2**30, free=lambda _: self.free)
        self.doors = Doors(
            store=self.store,
            cluster=self.cluster,
            artifacts=self.artifacts,
            clock=self.clock,
            disk=self.disk,
        )
        self.controller = self.new_controller()

    def new_controller(
        self, *, holder: str = "one", door: Callable[[Any], Any] = lambda real: real
    ) -> Controller:
        """Return a controller that leads, and sees each of the fakes through `door`."""
        lease = self.store.take_lease(CONTROLLER, holder)
        assert lease is not None
        doors = Doors(
            store=door(self.store.fenced(lease)),
            cluster=door(self.cluster),
            artifacts=door(self.artifacts),
            clock=self.clock,
            disk=self.disk,
        )
        launcher = Launcher(
            doors.artifacts, location="/data", catalogue={"base": ENTRY}, keep_checkpoints=3
        )
        return Controller(doors, launcher, crash_retries=RETRIES)

    def add_file(
        self, rows: list[object], name: str = "alpaca.jsonl", *, within: SqlStore | None = None
    ) -> File:
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        file = File(
            id=f"file-{name}-{self.jobs_made}",
            filename=name,
            purpose=Purpose.FINE_TUNE,
            bytes=len(content),
            sha256="0",
            created_at=0,
            key=f"files/{name}-{self.jobs_made}",
        )
        self.artifacts.put(file.key, content)
        (within or self.store).add_file(file)
        return file

    def add_job(
        self,
        *,
        rows: list[object] | None = None,
        request: JobRequest | None = None,
        validation_file: File | None = None,
        within: SqlStore | None = None,
    ) -> Job:
        """Add a job of the default project, or of that which `within` is the store of."""
        self.jobs_made += 1
        file = self.add_file(good_rows() if rows is None else rows, within=within)
        job = Job(
            id=f"ftjob-{self.jobs_made}",
            dialect=Dialect.OPENAI,
            created_at=int(self.clock.now()),
            status=JobStatus.VALIDATING_FILES,
            model="base",
            training_file=file.id,
            training_filename=file.filename,
            validation_file=validation_file.id if validation_file else None,
            request=request or JobRequest(),
            seed=1,
            organization="org",
        )
        return (within or self.store).add_job(job)

    def job(self, job: Job) -> Job:
        return self.store.job(job.id)

    def run_of(self, job: Job) -> RunDirectory:
        return RunDirectory(self.artifacts, job.id)

    def step_until(self, job: Job, status: JobStatus) -> Job:
        """Make passes until the job has `status`; files are checked in a thread meanwhile."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.job(job).status is status:
                return self.job(job)
            self.controller.step()
        raise AssertionError(f"{job.id} is {self.job(job).status}, not {status}")

    def launched(self, job: Job) -> Job:
        self.step_until(job, JobStatus.QUEUED)
        self.controller.step()
        return self.job(job)

    def running(self, job: Job) -> Job:
        launched = self.launched(job)
        self.cluster.begin(launched.submission_id)
        return self.step_until(job, JobStatus.RUNNING)

    def write(self, job: Job, **fields: object) -> None:
        """Let the job's run write one event."""
        run = self.run_of(job)
        number = len(run.events(after=0)) + 1
        event = {"number": number, "created_at": int(self.clock.now()), "message": "m", **fields}
        run.append_event(RunEvent.model_validate(event))

    def report_success(self, job: Job) -> None:
        self.artifacts.put(f"runs/{job.id}/metrics.csv", b"step,train_loss\n1,1.0\n")
        self.write(job, outcome=RunOutcome(trained_tokens=123))

    def messages(self, job: Job) -> list[str]:
        events = self.store.list_events(job.id, after=None, limit=100).items
        return [event.message for event in reversed(events)]


def good_rows(count: int = 12) -> list[object]:
    return [{"instruction": f"say {i}", "input": "", "output": f"{i}"} for i in range(count)]
