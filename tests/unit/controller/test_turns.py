"""The queue in the controller's hands: turns, room that is made, deadlines, what is told."""

from __future__ import annotations

import pytest

from tunesmith.cluster.fake import empty_node
from tunesmith.cluster.protocol import SubmissionState
from tunesmith.controller import turns
from tunesmith.controller.turns import TOLD_EVERY
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.jobs import Job, JobStatus
from tunesmith.domain.queue import Wait
from tunesmith.domain.spec import JobRequest
from unit.controller.world import World, step_metrics


def told(world: World, job: Job) -> Wait | None:
    """What `job` is told once it is time to tell."""
    world.clock.advance(TOLD_EVERY)
    world.controller.step()
    return world.store.waits([job.id]).get(job.id)


def test_a_waiting_job_is_told_why_and_a_launched_one_no_more(world: World) -> None:
    first = world.running(world.add_job())
    world.write(first, metrics=step_metrics(1, seconds_left=90.0))
    second = world.step_until(world.add_job(), JobStatus.QUEUED)

    wait = told(world, second)

    assert wait is not None
    assert (wait.position, wait.missing) == (1, {"CPU": 2.0})
    assert wait.held_by[0].job_id == first.id
    assert wait.expected_start == world.job(first).estimated_finish
    world.report_success(first)
    world.cluster.end(first.submission_id, SubmissionState.SUCCEEDED)
    world.step_until(first, JobStatus.SUCCEEDED)
    assert told(world, second) is None
    assert world.store.all_waits() == []


def test_a_long_queue_is_told_its_new_places_a_part_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "TOLD_AT_ONCE", 2)
    running = world.running(world.add_job())
    first = world.step_until(world.add_job(), JobStatus.QUEUED)
    waiting = [world.step_until(world.add_job(), JobStatus.QUEUED) for _ in range(6)]
    world.clock.advance(TOLD_EVERY)
    world.controller.step()

    def places() -> list[int]:
        waits = world.store.waits([job.id for job in waiting])
        return [waits[job.id].position for job in waiting]

    assert places() == [2, 3, 4, 5, 6, 7]
    world.store.cancel_job(first.id, now=int(world.clock.now()))
    seen = []
    for _ in range(3):
        told(world, running)
        seen.append(places())
    # The first two of the line hear at once, those behind them two at a time, in turns.
    assert seen == [[1, 2, 4, 5, 5, 6], [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]]


def test_what_was_told_before_a_restart_is_taken_back_after_it(world: World) -> None:
    world.running(world.add_job())
    second = world.step_until(world.add_job(), JobStatus.QUEUED)
    assert told(world, second) is not None
    world.store.cancel_job(second.id, now=int(world.clock.now()))
    world.controller = world.new_controller()
    assert told(world, second) is None


def test_a_silent_cluster_leaves_what_was_told(world: World) -> None:
    world.running(world.add_job())
    second = world.step_until(world.add_job(), JobStatus.QUEUED)
    before = told(world, second)
    world.cluster.unavailable = True
    assert told(world, second) == before


def test_a_low_job_makes_room_for_a_high_one_and_goes_on_afterwards(world: World) -> None:
    low = world.running(world.add_job(request=JobRequest(priority="low")))
    high = world.step_until(world.add_job(request=JobRequest(priority="high")), JobStatus.QUEUED)
    for _ in range(4):
        world.controller.step()
    high = world.running(high)

    assert world.cluster.stopped == [low.submission_id]
    assert world.job(low).status is JobStatus.QUEUED
    assert world.messages(low)[-1].startswith("A job of higher priority needs the room")
    world.report_success(high)
    world.cluster.end(high.submission_id, SubmissionState.SUCCEEDED)
    world.step_until(high, JobStatus.SUCCEEDED)
    again = world.running(low)
    assert (again.attempt, again.crashes) == (2, 0)


def test_a_high_job_waits_until_the_low_one_has_saved_its_checkpoint(world: World) -> None:
    world.cluster.obeys_stop = False
    low = world.running(world.add_job(request=JobRequest(priority="low")))
    high = world.step_until(world.add_job(request=JobRequest(priority="high")), JobStatus.QUEUED)
    for _ in range(4):
        world.controller.step()
    assert world.job(high).attempt == 0
    world.cluster.end(low.submission_id, SubmissionState.STOPPED)
    world.running(high)


def test_a_job_beyond_its_time_fails_is_stopped_at_once_and_says_what_would_help(
    world: World,
) -> None:
    job = world.running(world.add_job(request=JobRequest(max_run_seconds=60)))
    world.clock.advance(59)
    world.controller.step()
    assert world.job(job).status is JobStatus.RUNNING
    world.clock.advance(1)

    failed = world.step_until(job, JobStatus.FAILED)
    world.controller.step()

    assert failed.error is not None
    assert failed.error.code is FailureCode.DEADLINE_EXCEEDED
    assert failed.error.change == {"max_run_seconds": None}
    assert "60 seconds" in failed.error.message
    assert world.cluster.stopped == [job.submission_id]


def test_time_that_a_job_waits_is_not_counted(world: World) -> None:
    job = world.running(world.add_job(request=JobRequest(max_run_seconds=60)))
    world.clock.advance(30)
    world.store.pause_job(job.id)
    for _ in range(3):
        world.controller.step()
    world.clock.advance(1000)
    world.store.resume_job(job.id)
    world.running(job)
    assert world.job(job).run_seconds == 30
    world.clock.advance(29)
    world.controller.step()
    assert world.job(job).status is JobStatus.RUNNING
    world.clock.advance(1)
    world.step_until(job, JobStatus.FAILED)


def test_a_project_that_used_little_goes_before_one_that_used_much(world: World) -> None:
    greedy, modest = world.store.within("greedy"), world.store.within("modest")
    first = world.running(world.add_job(within=greedy))
    world.clock.advance(3600)
    world.controller.step()
    second = world.step_until(world.add_job(within=greedy), JobStatus.QUEUED)
    third = world.step_until(world.add_job(within=modest), JobStatus.QUEUED)
    world.report_success(first)
    world.cluster.end(first.submission_id, SubmissionState.SUCCEEDED)
    world.step_until(first, JobStatus.SUCCEEDED)

    world.controller = world.new_controller()
    world.controller.step()

    assert (world.job(second).attempt, world.job(third).attempt) == (0, 1)


def test_memory_that_no_node_has_is_refused_by_name(world: World) -> None:
    world.cluster.nodes = (empty_node("n", cpus=2, memory=1000.0),)
    job = world.add_job(request=JobRequest(memory=2000))
    failed = world.step_until(job, JobStatus.FAILED)
    assert failed.error is not None
    assert (failed.error.code, failed.error.param) == ("resources_unavailable", "memory")
    assert "the largest has 1000" in failed.error.message
    assert failed.error.change == {"memory": None}


def test_memory_is_claimed_on_the_cluster(world: World) -> None:
    world.launched(world.add_job(request=JobRequest(memory=2000)))
    assert world.cluster.submissions[-1].memory == 2000
