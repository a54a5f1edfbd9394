"""Where a job fails before or beside its run, another succeeds with the change that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from merging import merged
from tunesmith.cluster.protocol import SubmissionState
from tunesmith.domain.events import RunOutcome
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.jobs import Job, JobError, JobStatus
from tunesmith.protocol.jobs import CreateJob, JobObject
from tunesmith.protocol.reading import read_shape
from unit.controller.world import World, good_rows

if TYPE_CHECKING:
    from tunesmith.domain.files import File
    from tunesmith.domain.spec import JobRequest

BAD_ROW = {"instruction": "x"}


def read(body: dict[str, Any]) -> JobRequest:
    return read_shape(CreateJob, {"model": "base", "training_file": "f"} | body).to_request()


def change_of(job: Job) -> dict[str, Any] | None:
    error = JobObject.to_wire(job).error
    assert error is not None
    return error.change


def test_bad_rows_are_set_aside_where_that_is_enough(world: World) -> None:
    rows = [*good_rows(12), BAD_ROW]
    failed = world.step_until(world.add_job(rows=rows), JobStatus.FAILED)
    change = change_of(failed)
    assert change == {"tuning": {"bad_rows": "set_aside"}}

    again = world.add_job(rows=rows, request=read(merged({}, change)))

    world.step_until(again, JobStatus.QUEUED)


@pytest.mark.parametrize(
    ("rows", "body"),
    [
        (good_rows(9), {}),
        ([*good_rows(9), BAD_ROW], {}),
        ([*good_rows(12), *[BAD_ROW] * 3], {}),
        ([*good_rows(12), *[BAD_ROW] * 3], {"tuning": {"bad_rows": "set_aside"}}),
        ([], {}),
    ],
    ids=["too few", "too few others", "too many", "too many to set aside", "empty"],
)
def test_a_training_file_that_no_request_mends_has_no_change(
    world: World, rows: list[object], body: dict[str, Any]
) -> None:
    failed = world.step_until(world.add_job(rows=rows, request=read(body)), JobStatus.FAILED)

    assert failed.error is not None
    assert failed.error.code is FailureCode.INVALID_TRAINING_FILE
    assert change_of(failed) is None


@pytest.mark.parametrize(
    ("rows", "change"),
    [
        ([*good_rows(12), BAD_ROW], {"tuning": {"bad_rows": "set_aside"}}),
        ([BAD_ROW], {"validation_file": None, "tuning": {"held_out_percent": 10}}),
    ],
)
def test_a_bad_validation_file_is_read_in_part_or_replaced(
    world: World, rows: list[object], change: dict[str, Any]
) -> None:
    valid = world.add_file(rows, "valid.jsonl")
    body: dict[str, Any] = {"validation_file": valid.id, "tuning": {"evaluate_every": 2}}
    job = world.add_job(request=read(body), validation_file=valid)
    failed = world.step_until(job, JobStatus.FAILED)
    assert failed.error is not None
    assert failed.error.code is FailureCode.INVALID_VALIDATION_FILE
    assert change_of(failed) == change

    body = merged(body, change)
    kept: File | None = valid if body["validation_file"] else None
    again = world.add_job(request=read(body), validation_file=kept)

    world.step_until(again, JobStatus.QUEUED)


def test_processors_that_are_not_there_are_left_open(world: World) -> None:
    failed = world.step_until(
        world.add_job(request=read({"tuning": {"cpus": 32}})), JobStatus.FAILED
    )
    change = change_of(failed)
    assert change == {"tuning": {"cpus": None}}

    running = world.running(world.add_job(request=read(merged({"tuning": {"cpus": 32}}, change))))

    assert world.run_of(running).read_spec().cpus == 2


def test_a_worker_that_was_lost_again_and_again_is_to_take_less_memory(world: World) -> None:
    changes: list[dict[str, Any] | None] = []
    body: dict[str, Any] = {"tuning": {"adapter": {"kind": "full"}}}
    for _ in range(3):
        job = world.add_job(request=read(body))
        for _ in range(3):
            submission = world.running(job).submission_id
            world.cluster.end(submission, SubmissionState.FAILED, message="exit code -9")
            world.controller.step()
        failed = world.step_until(job, JobStatus.FAILED)
        assert failed.error is not None
        assert failed.error.code is FailureCode.WORKER_LOST
        assert failed.error.message.endswith("max_length to 512.")
        changes.append(change_of(failed))
        body = merged(body, changes[-1] or {})

    assert changes == [
        {"tuning": {"gradient_checkpointing": True}},
        {"tuning": {"adapter": {"kind": "lora"}}},
        {"tuning": {"max_length": 512}},
    ]


def test_a_full_disk_has_no_change(world: World) -> None:
    running = world.running(world.add_job())
    words = "failed with exit code 28, last"
    world.cluster.end(running.submission_id, SubmissionState.FAILED, message=words)

    failed = world.step_until(running, JobStatus.FAILED)

    assert failed.error is not None
    assert (failed.error.code, failed.error.change) == (FailureCode.DISK_FULL, None)


def test_a_model_that_is_gone_has_no_change(world: World) -> None:
    job = world.add_job().model_copy(update={"id": "ftjob-gone", "model": "gone"})
    world.store.cancel_job("ftjob-1", now=1)
    world.store.add_job(job)

    failed = world.step_until(job, JobStatus.FAILED)

    assert failed.error is not None
    assert (failed.error.code, failed.error.change) == (FailureCode.MODEL_UNAVAILABLE, None)


def test_the_change_that_a_run_names_is_kept(world: World) -> None:
    job = world.running(world.add_job())
    error = JobError(
        code=FailureCode.OUT_OF_MEMORY, message="Why.", change={"max_length": 8, "cpus": None}
    )
    world.write(job, outcome=RunOutcome(error=error))

    assert world.step_until(job, JobStatus.FAILED).error == error
