"""A backup that is taken while others write and delete holds all that its database names."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from postgres import server_or_skip
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.cli.backups import back_up, restore
from tunesmith.cli.database import open_store
from tunesmith.domain.events import Checkpoint, RunEvent, RunOutcome, StepMetrics
from tunesmith.domain.files import File, Purpose, content_key
from tunesmith.domain.ids import Dialect, new_checkpoint_id, new_file_id, new_job_id
from tunesmith.domain.jobs import Job, JobChange, JobStatus
from tunesmith.domain.models import TunedModel
from tunesmith.domain.spec import JobRequest, LoraSpec
from tunesmith.settings import Settings, load_settings
from tunesmith.store.sql import SqlStore

WRITERS = 4
STEPS = 6


class Writer:
    """Uploads, trains and deletes, as the API, the controller and a run do it."""

    def __init__(self, data: Path, number: int, *, url: str | None) -> None:
        self.store = open_store(data, url)
        self.artifacts = LocalArtifacts(data)
        self.chance = random.Random(number)
        self.jobs: list[str] = []
        self.busy = threading.Event()

    def work(self, stop: threading.Event) -> None:
        while not stop.is_set():
            job = self.train(self.upload())
            if len(self.jobs) > 2:
                self.busy.set()
            if self.chance.random() < 0.4:
                self.delete_file(self.upload())
            if self.chance.random() < 0.4:
                self.delete_model(job)

    def upload(self) -> File:
        content = self.chance.randbytes(self.chance.randrange(100, 60_000))
        sha256 = hashlib.sha256(content).hexdigest()
        file = File(
            id=new_file_id(),
            filename="rows.jsonl",
            purpose=Purpose.FINE_TUNE,
            bytes=len(content),
            sha256=sha256,
            created_at=1,
            key=content_key(sha256),
        )
        with self.artifacts.locked(file.key):
            self.artifacts.put(file.key, content)
            self.store.add_file(file)
        return file

    def delete_file(self, file: File) -> None:
        with self.artifacts.locked(file.key):
            if not self.store.delete_file(file.id):
                self.artifacts.delete(file.key)

    def train(self, file: File) -> Job:
        job = Job(
            id=new_job_id(Dialect.OPENAI),
            dialect=Dialect.OPENAI,
            created_at=1,
            status=JobStatus.VALIDATING_FILES,
            model="tiny",
            training_file=file.id,
            training_filename=file.filename,
            request=JobRequest(lora=LoraSpec(targets=("q_proj",))),
            seed=1,
            organization="tunesmith",
        )
        self.store.add_job(job)
        self.jobs.append(job.id)
        job = self.store.change_job(job, JobChange(status=JobStatus.QUEUED), message="Queued")
        launched = JobChange(status=JobStatus.RUNNING, attempt=1, submission_open=True)
        job = self.store.change_job(job, launched, message="Started")
        run = RunDirectory(self.artifacts, job.id)
        for step in range(1, STEPS + 1):
            self.take_step(run, job, step=step)
        return self.finish(run, job)

    def take_step(self, run: RunDirectory, job: Job, *, step: int) -> None:
        metrics = StepMetrics(
            step=step,
            total_steps=STEPS,
            train_loss=1.0,
            train_mean_token_accuracy=0.5,
            learning_rate=0.1,
            tokens_per_second=1.0,
            seconds_left=1.0,
        )
        event = RunEvent(number=step, created_at=step, message=f"Step {step}", metrics=metrics)
        run.append_event(event)
        with run.scratch() as aside:
            folder = aside / "checkpoint"
            folder.mkdir()
            for name in ("adapter", "state"):
                (folder / name).write_bytes(self.chance.randbytes(20_000))
            run.save_checkpoint(step, folder)
        run.publish(step, run.published_checkpoint(step), names=iter(["adapter"]))
        checkpoint = Checkpoint(
            id=new_checkpoint_id(),
            job_id=job.id,
            created_at=step,
            step=step,
            model=f"{job.id}:ckpt-step-{step}",
            metrics=metrics,
            key=run.published_checkpoint(step),
        )
        self.store.ingest(job.id, [event], checkpoints=[checkpoint])
        for old in run.checkpoint_steps()[:-2]:
            run.drop_checkpoint(old)
        self.store.drop_checkpoints(job.id, keep=run.checkpoint_steps())

    def finish(self, run: RunDirectory, job: Job) -> Job:
        run.publish(STEPS, run.output, names=iter(["adapter"]))
        run.write_metrics(b"step\n")
        run.append_event(
            RunEvent(number=STEPS + 1, created_at=9, message="Done", outcome=RunOutcome())
        )
        model = TunedModel(
            name=f"ft:{job.id}", base="tiny", job_id=job.id, created_at=9, key=run.output
        )
        results = File(
            id=new_file_id(),
            filename="metrics.csv",
            purpose=Purpose.FINE_TUNE_RESULTS,
            bytes=5,
            sha256=hashlib.sha256(b"step\n").hexdigest(),
            created_at=9,
            key=f"runs/{job.id}/metrics.csv",
        )
        done = self.store.finish_job(job, JobChange(), model=model, results=results)
        return self.store.change_job(done, JobChange(submission_open=False))

    def delete_model(self, job: Job) -> None:
        gone = self.store.retire_model(job.fine_tuned_model or "")
        run = RunDirectory(self.artifacts, job.id)
        for step in run.checkpoint_steps():
            run.drop_checkpoint(step)
        self.artifacts.delete(gone.key)
        self.store.delete_model(gone.name)


@contextmanager
def writing(data: Path, url: str | None) -> Iterator[list[Writer]]:
    writers = [Writer(data, number, url=url) for number in range(WRITERS)]
    stop, faults = threading.Event(), list[BaseException]()

    def work(writer: Writer) -> None:
        try:
            writer.work(stop)
        except BaseException as error:
            faults.append(error)
            raise

    threads = [threading.Thread(target=work, args=(writer,)) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        yield writers
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for writer in writers:
            writer.store.close()
    assert faults == []


@pytest.fixture
def settings(tmp_path: Path) -> Callable[[str], Settings]:
    return lambda name: load_settings({"data": tmp_path / name, "min_free_bytes": 0})


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """The database that is written to; what is restored is a file of SQLite's."""
    if request.param == "sqlite":
        yield None
        return
    with server_or_skip() as server:
        yield server.url(server.database())


def check_whole(data: Path) -> tuple[SqlStore, list[Job]]:
    """Read all that the restored folder's database names; return its store and jobs."""
    store, artifacts = open_store(data), LocalArtifacts(data)
    files = store.list_files(purpose=None, after=None, limit=10_000, order="asc").items
    for file in files:
        content = artifacts.get(file.key)
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.bytes, file.sha256)
    jobs = store.list_jobs(after=None, limit=10_000).items
    for job in jobs:
        run = RunDirectory(artifacts, job.id)
        told = [each.number for each in run.events(after=0)]
        assert told == list(range(1, len(told) + 1))
        assert len(told) >= job.run_events_seen
        if job.status is not JobStatus.SUCCEEDED or job.submission_open:
            check_goes_on(artifacts, run)
            continue
        for checkpoint in store.list_checkpoints(job.id, after=None, limit=10).items:
            if not checkpoint.deleting:
                assert len(artifacts.get(f"{checkpoint.key}/adapter")) == 20_000
    for model in store.list_tuned_models():
        if not model.deleting:
            assert len(artifacts.get(f"{model.key}/adapter")) == 20_000
    return store, list(jobs)


def check_goes_on(artifacts: LocalArtifacts, run: RunDirectory) -> None:
    """A run that was going on has whole checkpoints, none beyond its events."""
    events = run.events(after=0)
    last = max((each.metrics.step for each in events if each.metrics), default=0)
    for step in run.checkpoint_steps():
        assert step <= last
        for name in ("adapter", "state"):
            assert len(artifacts.get(f"{run.checkpoint(step)}/{name}")) == 20_000
    if any(each.outcome for each in events):
        assert artifacts.exists(f"{run.output}/adapter")


def test_all_jobs_files_events_and_models_are_there_elsewhere(
    settings: Callable[[str], Settings], tmp_path: Path, url: str | None
) -> None:
    home = settings("home").model_copy(update={"database_url": url})
    home.data.mkdir()
    with writing(home.data, url) as writers:
        for writer in writers:
            assert writer.busy.wait(60)
        before = {job_id for writer in writers for job_id in writer.jobs[:-1]}
        manifest = back_up(home, tmp_path / "first")
        again = back_up(home, tmp_path / "second", since=tmp_path / "first")
    assert manifest.missing == again.missing == ()
    for name in ("first", "second"):
        restore(settings(f"from-{name}"), tmp_path / name)
        store, jobs = check_whole(tmp_path / f"from-{name}")
        assert before <= {job.id for job in jobs}
        ended = [job for job in jobs if job.status is JobStatus.SUCCEEDED]
        told = store.list_events(ended[0].id, after=None, limit=100).items
        assert f"Step {STEPS}" in [event.message for event in told]
