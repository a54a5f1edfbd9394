"""While the disk has too little room, nothing is launched; what waits says why, and goes on."""

from __future__ import annotations

import logging
import time

import pytest

from tunesmith.cluster.protocol import SubmissionState
from tunesmith.controller.turns import TOLD_EVERY
from tunesmith.domain.estimates import Estimate, EstimateStatus
from tunesmith.domain.exports import Export, ExportFormat, ExportStatus
from tunesmith.domain.jobs import Job, JobStatus
from tunesmith.domain.queue import Wait
from tunesmith.domain.spec import JobRequest
from unit.controller.world import World

FULL, ROOM = 2**30 - 1, 2**30
SMALL = JobRequest(cpus=1)
WHY = "The disk of the data folder has less than 1.0 GiB free"


def step_and_tell(world: World) -> None:
    """Make a pass that tells waiting jobs what is new."""
    world.clock.advance(TOLD_EVERY)
    world.controller.step()


def wait_of(world: World, job: Job) -> Wait:
    return next(wait for wait in world.store.all_waits() if wait.job_id == job.id)


def ask_export(world: World) -> None:
    """Ask the export `exp_1` of a model that is made for it."""
    job = world.running(world.add_job(request=SMALL))
    world.report_success(job)
    world.cluster.end(job.submission_id, SubmissionState.SUCCEEDED)
    model = world.step_until(job, JobStatus.SUCCEEDED).fine_tuned_model or ""
    made = Export(
        id="exp_1", created_at=0, model=model, job_id="", key="", format=ExportFormat.MERGED
    )
    world.store.add_export(made)


def test_a_job_waits_for_room_says_so_and_is_launched_by_itself(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    job = world.add_job(request=SMALL)
    world.free = FULL
    with caplog.at_level(logging.INFO):
        world.step_until(job, JobStatus.QUEUED)
        for free in (FULL, 5, 0):
            world.free = free
            step_and_tell(world)
        assert world.cluster.submissions == []
        told = wait_of(world, job)
        assert told.reason.startswith(WHY)
        assert (told.position, told.missing, told.held_by, told.expected_start) == (1, {}, (), None)
        assert [record.message for record in caplog.records if WHY in record.message] == [
            f"Nothing is launched: {told.reason}"
        ]
        world.free = ROOM
        step_and_tell(world)
    assert [each.id for each in world.cluster.submissions] == [f"{job.id}-1"]
    assert "The disk has room again" in caplog.text
    step_and_tell(world)
    assert world.store.all_waits() == []


def test_what_is_told_stays_the_same_while_the_disk_fills(world: World) -> None:
    job = world.add_job(request=SMALL)
    world.free = FULL
    world.step_until(job, JobStatus.QUEUED)
    step_and_tell(world)
    told = wait_of(world, job)
    world.free = 7
    step_and_tell(world)
    assert wait_of(world, job) == told


def test_a_job_that_runs_goes_on_and_ends_and_one_that_was_lost_waits(world: World) -> None:
    done = world.running(world.add_job(request=SMALL))
    lost = world.running(world.add_job(request=SMALL))
    world.free = FULL
    world.report_success(done)
    world.step_until(done, JobStatus.SUCCEEDED)
    world.cluster.end(lost.submission_id, SubmissionState.FAILED)
    world.step_until(lost, JobStatus.QUEUED)
    step_and_tell(world)
    assert wait_of(world, lost).reason.startswith(WHY)
    assert world.job(lost).attempt == 1
    world.free = ROOM
    step_and_tell(world)
    assert world.job(lost).attempt == 2


def test_no_job_makes_room_for_one_that_is_not_launched(world: World) -> None:
    low = [
        world.running(world.add_job(request=JobRequest(cpus=1, priority="low"))) for _ in range(2)
    ]
    high = world.add_job(request=JobRequest(cpus=2, priority="high"))
    world.free = FULL
    world.step_until(high, JobStatus.QUEUED)
    step_and_tell(world)
    assert [world.job(job).stopping for job in low] == [False, False]
    world.free = ROOM
    step_and_tell(world)
    assert all(world.job(job).stopping for job in low)


def test_an_export_waits_for_room_and_says_so(world: World) -> None:
    ask_export(world)
    world.free = FULL
    world.controller.step()
    held = world.store.export("exp_1")
    assert (held.status, held.attempt) == (ExportStatus.QUEUED, 0)
    assert (held.message or "").startswith(WHY)
    world.free = ROOM
    world.controller.step()
    assert world.store.export("exp_1").status is ExportStatus.RUNNING


def test_an_export_that_runs_is_cared_for_and_can_be_cancelled(world: World) -> None:
    ask_export(world)
    world.controller.step()
    world.cluster.begin("exp_1-1")
    world.free = FULL
    world.store.cancel_export("exp_1", now=1)
    world.controller.step()
    world.controller.step()
    assert not world.store.export("exp_1").submission_open


def test_an_estimate_waits_for_room(world: World) -> None:
    job = world.add_job(request=SMALL)
    asked = Estimate(
        id="ftestimate-1", created_at=0, job=job.model_copy(update={"id": "ftestimate-1"})
    )
    world.store.add_estimate(asked)
    world.free = FULL
    deadline = time.monotonic() + 20
    while world.store.estimate(asked.id).job.resolved is None:
        assert time.monotonic() < deadline
        world.controller.step()
    world.controller.step()
    assert world.store.estimate(asked.id).status is EstimateStatus.QUEUED
    world.free = ROOM
    world.controller.step()
    assert world.store.estimate(asked.id).status is EstimateStatus.RUNNING
