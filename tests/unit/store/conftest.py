"""The store on each database behind one fixture, and the values that the tests put into them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine

from postgres import Server, server_or_skip
from stores import add_job, migrated
from tunesmith.domain.clock import FakeClock
from tunesmith.domain.events import Checkpoint, RunEvent, StepMetrics
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.ids import Dialect, checkpoint_model_name, new_checkpoint_id
from tunesmith.domain.jobs import Job, JobChange, JobStatus
from tunesmith.domain.models import TunedModel
from tunesmith.domain.spec import JobRequest, LoraSpec
from tunesmith.store.protocol import Store
from tunesmith.store.schema import upgrade
from tunesmith.store.sql import SqlStore
from tunesmith.store.tables import METADATA, PROJECTS

START = 1_700_000_000


class Examples:
    """Values with telling defaults."""

    def file(
        self,
        name: str = "a",
        *,
        filename: str = "train.jsonl",
        purpose: Purpose = Purpose.FINE_TUNE,
    ) -> File:
        return File(
            id=f"file-{name}",
            filename=filename,
            purpose=purpose,
            bytes=12,
            sha256="0" * 64,
            created_at=START,
            key=f"files/file-{name}",
        )

    def job(
        self, name: str = "1", *, training_file: str = "file-a", validation_file: str | None = None
    ) -> Job:
        return Job(
            id=f"ftjob-{name}",
            dialect=Dialect.OPENAI,
            created_at=START,
            status=JobStatus.VALIDATING_FILES,
            model="tiny",
            training_file=training_file,
            training_filename="train.jsonl",
            validation_file=validation_file,
            validation_filename=validation_file and "valid.jsonl",
            request=JobRequest(lora=LoraSpec(targets=("q_proj",)), metadata={"team": "blue"}),
            seed=2**63 - 1,
            organization="tunesmith",
        )

    def metrics(self, step: int, *, seconds_left: float = 60.0) -> StepMetrics:
        return StepMetrics(
            step=step,
            train_loss=0.1 + 0.2,
            train_mean_token_accuracy=0.5,
            total_steps=100,
            learning_rate=1e-4,
            tokens_per_second=512.5,
            seconds_left=seconds_left,
        )

    def run_event(self, number: int, *, metrics: StepMetrics | None = None) -> RunEvent:
        return RunEvent(
            number=number, created_at=START + number, message=f"line {number}", metrics=metrics
        )

    def checkpoint(self, job: Job, step: int) -> Checkpoint:
        return Checkpoint(
            id=new_checkpoint_id(),
            job_id=job.id,
            created_at=START + step,
            step=step,
            model=checkpoint_model_name("ft:tiny:tunesmith::1", step),
            metrics=self.metrics(step),
            key=f"output/{job.id}/checkpoint-{step}",
        )

    def model(self, job: Job) -> TunedModel:
        return TunedModel(
            name=f"ft:tiny:tunesmith::{job.id}",
            base="tiny",
            job_id=job.id,
            created_at=START,
            key=f"output/{job.id}",
        )

    def results(self, job: Job) -> File:
        return self.file(
            f"results-{job.id}", filename="metrics.csv", purpose=Purpose.FINE_TUNE_RESULTS
        )


class Steps:
    """The ways of a job through a store."""

    def __init__(self, examples: Examples) -> None:
        self._examples = examples

    def running(self, store: Store, name: str = "1") -> Job:
        job = self._examples.job(name)
        add_job(store, job)
        queued = store.change_job(job, JobChange(status=JobStatus.QUEUED), message="Validated")
        launched = JobChange(status=JobStatus.RUNNING, attempt=1, submission_open=True)
        return store.change_job(queued, launched, message="Started")

    def succeeded(self, store: Store, name: str = "1") -> Job:
        job = self.running(store, name)
        model, results = self._examples.model(job), self._examples.results(job)
        change = JobChange(trained_tokens=7)
        return store.finish_job(job, change, model=model, results=results)


@pytest.fixture(scope="session")
def examples() -> Examples:
    return Examples()


@pytest.fixture(scope="session")
def steps(examples: Examples) -> Steps:
    return Steps(examples)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START + 0.9)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server of PostgreSQL for all tests of a process."""
    with server_or_skip() as running:
        yield running


@pytest.fixture(scope="session")
def emptied(server: Server) -> Callable[[], str]:
    """Return the URL of a migrated database, which is emptied at each call.

    To copy one for each test would take the server a tenth of a second.
    """
    url = server.url(server.database())
    upgrade(url)
    engine = create_engine(url, poolclass=NullPool)
    tables = [table.name for table in reversed(METADATA.sorted_tables) if table is not PROJECTS]
    steps = [f"DELETE FROM {table};" for table in tables]
    # The default project alone is there from the start.
    steps += ["DELETE FROM projects WHERE name <> 'default';"]
    steps += ["UPDATE projects SET max_bytes = NULL, max_jobs = NULL, share = NULL,"]
    steps += ["requests_per_minute = NULL;"]

    def empty() -> str:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DO $$ BEGIN {' '.join(steps)} END $$")
        return url

    return empty


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which database a test runs on: each runs on both, unless it names one itself."""
    found: str = request.param
    return found


@pytest.fixture
def empty_url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database without any table."""
    if kind == "sqlite":
        yield f"sqlite:///{tmp_path}/tunesmith.db"
        return
    server: Server = request.getfixturevalue("server")
    name = server.database()
    yield server.url(name)
    server.drop(name)


@pytest.fixture
def url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The URL of a database with the tables of an empty store."""
    if kind == "sqlite":
        shutil.copy(migrated(), tmp_path / "tunesmith.db")
        return f"sqlite:///{tmp_path}/tunesmith.db"
    emptied: Callable[[], str] = request.getfixturevalue("emptied")
    return emptied()


@pytest.fixture
def open_store(url: str, clock: FakeClock) -> Iterator[Callable[[], SqlStore]]:
    """Open the test's one database once more, as another process would."""
    opened: list[SqlStore] = []

    def open_another() -> SqlStore:
        opened.append(SqlStore.open(url, clock))
        return opened[-1]

    yield open_another
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], SqlStore]) -> Store:
    return open_store()
