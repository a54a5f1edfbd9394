"""An export is made on the cluster, and ends as its process tells, whatever dies meanwhile."""

from __future__ import annotations

import pytest

from tunesmith.artifacts.exports import ExportDirectory
from tunesmith.cluster.fake import empty_node
from tunesmith.cluster.protocol import Coming, SubmissionState
from tunesmith.controller.asks import LOOK_EVERY
from tunesmith.controller.exports import ATTEMPTS
from tunesmith.domain.errors import ConflictError, DiskFullError
from tunesmith.domain.exports import (
    Export,
    ExportError,
    ExportFailure,
    ExportFile,
    ExportFormat,
    ExportOutcome,
    ExportReport,
    ExportStatus,
)
from tunesmith.domain.jobs import JobStatus
from tunesmith.domain.spec import JobRequest
from unit.controller.world import World

FILES = (ExportFile(name="model.safetensors", bytes=7, sha256="0"),)


@pytest.fixture
def export(world: World) -> Export:
    job = world.running(world.add_job(request=JobRequest(cpus=1)))
    world.report_success(job)
    world.cluster.end(job.submission_id, SubmissionState.SUCCEEDED)
    done = world.step_until(job, JobStatus.SUCCEEDED)
    assert done.fine_tuned_model is not None
    return world.store.add_export(
        Export(
            id="exp_1",
            created_at=0,
            model=done.fine_tuned_model,
            job_id="",
            key="",
            format=ExportFormat.MERGED,
        )
    )


def now(world: World) -> Export:
    return world.store.export("exp_1")


def directory(world: World) -> ExportDirectory:
    return ExportDirectory(world.artifacts, "exp_1")


def running(world: World) -> Export:
    world.controller.step()
    world.cluster.begin(now(world).submission_id)
    return now(world)


def report(world: World, *, attempt: int = 1, outcome: ExportOutcome | None = None) -> None:
    told = ExportReport(attempt=attempt, progress=0.4, message="Merging", outcome=outcome)
    directory(world).write_report(told)
    world.artifacts.put("exports/exp_1/files/model.safetensors", b"weights")


def test_an_export_is_submitted_once_with_all_that_decides_it(world: World, export: Export) -> None:
    launched = running(world)
    world.controller.step()

    assert (launched.status, launched.attempt) == (ExportStatus.RUNNING, 1)
    submission = world.cluster.submissions[-1]
    assert (submission.id, submission.cpus) == ("exp_1-1", 1)
    assert submission.command == (
        *("python", "-m", "tunesmith.inference.export"),
        *("--export", "exp_1", "--attempt", "1", "--artifacts", "/data"),
    )
    spec = directory(world).read_spec()
    assert (spec.model, spec.key) == (export.model, export.key)
    assert len(world.cluster.submissions) == 2


def test_its_progress_is_brought_in_and_then_its_end(world: World, export: Export) -> None:
    running(world)
    report(world)
    world.controller.step()
    assert (now(world).progress, now(world).message) == (0.4, "Merging")

    report(world, outcome=ExportOutcome(files=FILES))
    world.controller.step()
    assert now(world).status is ExportStatus.RUNNING
    world.cluster.end("exp_1-1", SubmissionState.SUCCEEDED)
    world.controller.step()

    done = now(world)
    assert (done.status, done.files, done.progress) == (ExportStatus.SUCCEEDED, FILES, 1.0)
    assert (done.message, done.submission_open) == (None, False)
    assert done.finished_at == int(world.clock.now())
    assert world.artifacts.exists("exports/exp_1/files/model.safetensors")


def test_what_failed_says_why_and_leaves_no_files(world: World, export: Export) -> None:
    running(world)
    error = ExportError(code=ExportFailure.NOT_EQUAL, message="not the same")
    report(world, outcome=ExportOutcome(error=error))
    world.cluster.end("exp_1-1", SubmissionState.SUCCEEDED)
    world.controller.step()
    assert (now(world).status, now(world).error) == (ExportStatus.FAILED, error)
    assert world.artifacts.list("exports") == []


def test_what_is_lost_begins_anew_up_to_a_limit(world: World, export: Export) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        assert running(world).attempt == attempt
        # What an older attempt told is nothing of this one's.
        report(world, attempt=attempt - 1, outcome=ExportOutcome(files=FILES))
        world.cluster.lose()
        world.controller.step()
    assert now(world).status is ExportStatus.FAILED
    error = now(world).error
    assert error is not None
    assert error.code is ExportFailure.WORKER_LOST


def test_a_controller_that_comes_back_goes_on_watching(world: World, export: Export) -> None:
    running(world)
    report(world, outcome=ExportOutcome(files=FILES))
    world.cluster.end("exp_1-1", SubmissionState.SUCCEEDED)

    world.new_controller().step()

    assert now(world).status is ExportStatus.SUCCEEDED


def test_a_cancelled_export_is_stopped_and_leaves_nothing(world: World, export: Export) -> None:
    running(world)
    report(world)
    world.store.cancel_export("exp_1", now=5)
    world.controller.step()
    assert world.cluster.stopped == ["exp_1-1"]
    with pytest.raises(ConflictError):
        world.store.delete_export("exp_1")
    world.controller.step()
    assert now(world).submission_open is False
    assert world.artifacts.list("exports") == []


def test_an_export_waits_for_a_free_processor_and_for_the_cluster(
    world: World, export: Export
) -> None:
    world.cluster.unavailable = True
    world.controller.step()
    world.cluster.unavailable = False
    nodes = world.cluster.nodes
    world.cluster.nodes = (empty_node("node-1", cpus=0.0),)
    world.controller.step()
    assert now(world).status is ExportStatus.QUEUED
    world.cluster.nodes = nodes
    world.controller.step()
    assert now(world).status is ExportStatus.RUNNING


def test_an_export_asks_for_a_node_where_none_has_a_processor(world: World, export: Export) -> None:
    world.cluster.nodes = (empty_node("head", cpus=0.0),)
    world.cluster.coming = (Coming(name="plain", resources={"CPU": 8.0}, more=2),)
    world.controller.step()
    world.clock.advance(LOOK_EVERY)
    world.controller.step()
    request = world.cluster.submissions[-1]
    assert request.command[2:] == ("tunesmith.cluster.nodes", '[[1, {"CPU": 8.0}]]')

    world.cluster.nodes += (empty_node("added", cpus=8.0),)
    world.controller.step()

    assert now(world).status is ExportStatus.RUNNING
    world.clock.advance(LOOK_EVERY)
    world.controller.step()
    assert world.cluster.stopped == [request.id]


def test_a_report_that_cannot_be_read_fails_the_export_alone(world: World, export: Export) -> None:
    running(world)
    world.artifacts.put("exports/exp_1/report.json", b"{")
    world.controller.step()
    assert now(world).status is ExportStatus.FAILED


def test_a_full_disk_stops_neither_jobs_nor_the_export_for_good(
    world: World, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise DiskFullError

    with monkeypatch.context() as patched:
        patched.setattr(ExportDirectory, "write_spec", full)
        job = world.add_job(request=JobRequest(cpus=1))
        world.step_until(job, JobStatus.QUEUED)
        assert now(world).status is ExportStatus.QUEUED

    world.controller.step()
    assert now(world).status is ExportStatus.RUNNING
