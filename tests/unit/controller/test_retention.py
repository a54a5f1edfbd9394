"""What has grown old goes by the operator's rules, and nothing that anybody needs."""

from __future__ import annotations

import pytest

from stores import fresh_store
from tunesmith.artifacts.memory import MemoryArtifacts
from tunesmith.cluster.fake import FakeCluster
from tunesmith.controller import retention as dropping
from tunesmith.controller.doors import Doors
from tunesmith.controller.retention import drop_old
from tunesmith.domain.clock import FakeClock
from tunesmith.domain.errors import DiskFullError
from tunesmith.domain.events import Checkpoint, EventType, RunEvent, StepMetrics
from tunesmith.domain.exports import Export, ExportFormat, ExportStatus
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.ids import Dialect, new_checkpoint_id
from tunesmith.domain.jobs import Job, JobChange, JobStatus
from tunesmith.domain.models import StartingPoint, TunedModel
from tunesmith.domain.retention import DAY, Retention, spare
from tunesmith.domain.spec import JobRequest, LoraSpec
from tunesmith.store.sql import SqlStore

EVERYTHING = Retention(events_days=30, checkpoints_days=30, files_days=30, exports_days=30)


@pytest.fixture
def doors() -> Doors:
    clock = FakeClock()
    return Doors(
        store=fresh_store(clock),
        cluster=FakeCluster(),
        artifacts=MemoryArtifacts(clock),
        clock=clock,
    )


def pass_days(doors: Doors, days: int) -> None:
    assert isinstance(doors.clock, FakeClock)
    doors.clock.advance(days * DAY)


def upload(doors: Doors, name: str, *, key: str | None = None) -> File:
    file = File(
        id=f"file-{name}",
        filename=f"{name}.jsonl",
        purpose=Purpose.FINE_TUNE,
        bytes=1,
        sha256="0",
        created_at=int(doors.clock.now()),
        key=key or f"files/{name}",
    )
    doors.artifacts.put(file.key, b"1")
    doors.store.add_file(file)
    return file


def checkpoint(job_id: str, step: int, *, valid_loss: float | None = None) -> Checkpoint:
    metrics = StepMetrics(
        step=step,
        total_steps=9,
        train_loss=1.0,
        train_mean_token_accuracy=0.5,
        valid_loss=valid_loss,
        learning_rate=0.1,
        tokens_per_second=1.0,
        seconds_left=1.0,
    )
    return Checkpoint(
        id=new_checkpoint_id(),
        job_id=job_id,
        created_at=step,
        step=step,
        model=f"{job_id}:ckpt-step-{step}",
        metrics=metrics,
        key=f"output/{job_id}/checkpoint-{step}",
    )


def new_job(name: str, file: File, *, start_from: StartingPoint | None = None) -> Job:
    return Job(
        id=f"ftjob-{name}",
        dialect=Dialect.OPENAI,
        created_at=1,
        status=JobStatus.VALIDATING_FILES,
        model="tiny",
        training_file=file.id,
        training_filename=file.filename,
        request=JobRequest(lora=LoraSpec(targets=("q_proj",))),
        seed=1,
        organization="tunesmith",
        start_from=start_from,
    )


def running(doors: Doors, name: str, file: File) -> Job:
    """Add a job that runs, with three steps and a checkpoint at each."""
    store, artifacts = doors.store, doors.artifacts
    job = store.add_job(new_job(name, file))
    job = store.change_job(job, JobChange(status=JobStatus.QUEUED))
    job = store.change_job(job, JobChange(status=JobStatus.RUNNING, attempt=1))
    for step in (1, 2, 3):
        made = checkpoint(job.id, step)
        event = RunEvent(number=step, created_at=step, message="Step", metrics=made.metrics)
        store.ingest(job.id, [event], checkpoints=[made])
        artifacts.put(f"runs/{job.id}/checkpoints/step-{step}/state", b"1")
        artifacts.put(f"{made.key}/adapter", b"1")
    return store.job(job.id)


def succeeded(doors: Doors, name: str, file: File) -> Job:
    job = running(doors, name, file)
    key = f"runs/{job.id}/metrics.csv"
    doors.artifacts.put(key, b"step")
    doors.artifacts.put(f"output/{job.id}/adapter", b"1")
    results = upload(doors, f"results-{name}", key=key)
    doors.store.delete_file(results.id)
    results = results.model_copy(update={"purpose": Purpose.FINE_TUNE_RESULTS})
    model = TunedModel(
        name=f"ft:{job.id}", base="tiny", job_id=job.id, created_at=1, key=f"output/{job.id}"
    )
    return doors.store.finish_job(job, JobChange(), model=model, results=results)


def new_export(doors: Doors, job: Job, name: str, *, status: ExportStatus) -> str:
    """Add an export with a file, which has ended now unless it is open."""
    made = Export(
        id=f"exp_{name}",
        created_at=1,
        model=job.fine_tuned_model or "",
        job_id=job.id,
        key="",
        format=ExportFormat.ADAPTER,
    )
    added = doors.store.add_export(made)
    ended = int(doors.clock.now()) if status.ended else None
    changed = added.model_copy(update={"status": status, "finished_at": ended})
    doors.store.change_export(added, changed)
    doors.artifacts.put(f"exports/{made.id}/files/adapter", b"1")
    return made.id


def exports(doors: Doors) -> list[str]:
    """Return the exports that are there, and see that they alone have their files."""
    kept = [each.id for each in doors.store.list_exports(after=None, limit=100).items]
    folders = {key.split("/")[1] for key in doors.artifacts.list("exports")}
    assert folders == set(kept)
    return sorted(kept)


def types(doors: Doors, job: Job) -> list[str]:
    events = doors.store.list_events(job.id, after=None, limit=100).items
    return [event.type for event in events]


def steps(doors: Doors, job: Job) -> list[int]:
    page = doors.store.list_checkpoints(job.id, after=None, limit=100)
    kept = sorted(each.step for each in page.items)
    for step in (1, 2, 3):
        there = bool(doors.artifacts.list(f"runs/{job.id}/checkpoints/step-{step}"))
        handed_out = bool(doors.artifacts.list(f"output/{job.id}/checkpoint-{step}"))
        assert there == handed_out == (step in kept)
    return kept


def test_without_rules_everything_stays(doors: Doors) -> None:
    job = succeeded(doors, "1", upload(doors, "a"))
    new_export(doors, job, "1", status=ExportStatus.SUCCEEDED)
    pass_days(doors, 10_000)
    drop_old(doors, Retention())
    assert types(doors, job).count(EventType.METRICS) == 3
    assert steps(doors, job) == [1, 2, 3]
    assert doors.store.file("file-a").id == "file-a"
    assert exports(doors) == ["exp_1"]


def test_old_metrics_go_and_the_job_says_so_once(doors: Doors) -> None:
    job, open_job = (
        succeeded(doors, "1", upload(doors, "a")),
        running(doors, "2", upload(doors, "b")),
    )
    pass_days(doors, 30)
    drop_old(doors, EVERYTHING)
    assert types(doors, job).count(EventType.METRICS) == 3
    pass_days(doors, 1)
    drop_old(doors, EVERYTHING)
    drop_old(doors, EVERYTHING)
    assert EventType.METRICS not in types(doors, job)
    told = doors.store.list_events(job.id, after=None, limit=100).items
    assert [each.message for each in told if "dropped" in each.message] == [
        "3 metrics events were dropped, since the job ended long ago; its result file keeps the "
        "numbers"
    ]
    assert types(doors, open_job).count(EventType.METRICS) == 3


def test_old_checkpoints_go_but_the_last_and_the_model_stays(doors: Doors) -> None:
    job, open_job = (
        succeeded(doors, "1", upload(doors, "a")),
        running(doors, "2", upload(doors, "b")),
    )
    pass_days(doors, 31)
    drop_old(doors, EVERYTHING)
    assert steps(doors, job) == [3]
    assert steps(doors, open_job) == [1, 2, 3]
    assert doors.store.tuned_model(f"ft:{job.id}").key == f"output/{job.id}"
    assert doors.artifacts.exists(f"output/{job.id}/adapter")


def test_a_checkpoint_that_another_project_may_use_stays(doors: Doors) -> None:
    job = succeeded(doors, "1", upload(doors, "a"))
    doors.store.within("default").add_permissions(f"{job.id}:ckpt-step-1", ["other"])
    pass_days(doors, 31)
    drop_old(doors, EVERYTHING)
    assert steps(doors, job) == [1, 3]


def test_a_checkpoint_that_an_unfinished_job_starts_from_stays(doors: Doors) -> None:
    file = upload(doors, "a")
    job = succeeded(doors, "1", file)
    name = f"{job.id}:ckpt-step-2"
    point = StartingPoint(name=name, base="tiny", key=f"output/{job.id}/checkpoint-2")
    doors.store.add_job(new_job("2", file, start_from=point))
    pass_days(doors, 31)
    drop_old(doors, EVERYTHING)
    assert steps(doors, job) == [2, 3]


def test_a_file_goes_that_no_job_has_used_for_long(doors: Doors) -> None:
    used, same = upload(doors, "used"), upload(doors, "same", key="files/shared")
    upload(doors, "unused")
    running(doors, "open", upload(doors, "open"))
    pass_days(doors, 20)
    succeeded(doors, "1", used)
    upload(doors, "young", key="files/shared")
    pass_days(doors, 11)
    drop_old(doors, EVERYTHING)
    files = doors.store.list_files(purpose=Purpose.FINE_TUNE, after=None, limit=9, order="asc")
    assert [file.id for file in files.items] == ["file-used", "file-open", "file-young"]
    assert doors.artifacts.exists(same.key), "another file has the same bytes"
    assert not doors.artifacts.exists("files/unused")
    pass_days(doors, 20)
    drop_old(doors, EVERYTHING)
    files = doors.store.list_files(purpose=None, after=None, limit=9, order="asc")
    assert [file.id for file in files.items] == ["file-open", "file-results-1"]


def test_an_export_goes_that_ended_long_ago_and_the_model_stays(doors: Doors) -> None:
    job = succeeded(doors, "1", upload(doors, "a"))
    for status in ExportStatus:
        new_export(doors, job, status, status=status)
    pass_days(doors, 11)
    new_export(doors, job, "young", status=ExportStatus.SUCCEEDED)
    pass_days(doors, 19)
    drop_old(doors, EVERYTHING)
    assert len(exports(doors)) == 6
    pass_days(doors, 1)
    drop_old(doors, EVERYTHING)
    assert exports(doors) == ["exp_queued", "exp_running", "exp_young"]
    assert doors.artifacts.exists(f"output/{job.id}/adapter")


def test_an_export_whose_process_may_be_alive_stays(doors: Doors) -> None:
    job = succeeded(doors, "1", upload(doors, "a"))
    export = doors.store.export(new_export(doors, job, "1", status=ExportStatus.CANCELLED))
    doors.store.change_export(export, export.model_copy(update={"submission_open": True}))
    pass_days(doors, 31)
    drop_old(doors, EVERYTHING)
    assert exports(doors) == ["exp_1"]


def test_an_export_whose_deletion_was_cut_short_goes_the_next_time(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = succeeded(doors, "1", upload(doors, "a"))
    new_export(doors, job, "1", status=ExportStatus.SUCCEEDED)
    pass_days(doors, 31)

    def full(*_: object) -> None:
        raise DiskFullError

    with monkeypatch.context() as patched:
        patched.setattr(SqlStore, "delete_export", full)
        with pytest.raises(DiskFullError):
            drop_old(doors, EVERYTHING)
    drop_old(doors, EVERYTHING)
    assert exports(doors) == []


def test_no_more_goes_at_once_than_others_can_wait_for(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dropping, "MOST", 1)
    job = succeeded(doors, "1", upload(doors, "a"))
    upload(doors, "b")
    pass_days(doors, 31)
    drop_old(doors, EVERYTHING)
    assert steps(doors, job) == [1, 3] or steps(doors, job) == [2, 3]
    assert (
        len(
            doors.store.list_files(
                purpose=Purpose.FINE_TUNE, after=None, limit=9, order="asc"
            ).items
        )
        == 1
    )
    drop_old(doors, EVERYTHING)
    assert steps(doors, job) == [3]


def test_the_last_checkpoint_and_the_best_are_not_spared() -> None:
    made = [checkpoint("j", step, valid_loss=loss) for step, loss in ((1, 2.0), (2, 1.0), (3, 3.0))]
    assert [each.step for each in spare(made)] == [1]
    assert [each.step for each in spare([checkpoint("j", step) for step in (1, 2)])] == [1]
    assert spare([]) == []
