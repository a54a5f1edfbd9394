"""A paused job frees its processors, loses nothing, and goes on as one that was never paused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tunesmith.cluster.protocol import SubmissionState
from tunesmith.domain.errors import ClusterUnavailableError
from tunesmith.domain.events import RunOutcome
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.jobs import Job, JobError, JobStatus
from unit.controller.world import World, step_metrics


def steps(world: World, count: int = 3) -> None:
    for _ in range(count):
        world.controller.step()


@pytest.fixture
def paused(world: World) -> Job:
    """A job that was paused in mid-run; its attempt has not been asked to end yet."""
    job = world.running(world.add_job())
    return world.store.pause_job(job.id)


def test_a_paused_run_is_stopped_and_gives_its_processors_to_the_next_job(
    world: World, paused: Job
) -> None:
    waiting = world.step_until(world.add_job(), JobStatus.QUEUED)

    world.running(waiting)

    assert world.cluster.stopped == [paused.submission_id]
    assert world.job(paused).status is JobStatus.PAUSED
    assert not world.job(paused).submission_open


def test_what_a_paused_run_still_tells_is_brought_in(world: World, paused: Job) -> None:
    world.cluster.obeys_stop = False
    steps(world)
    world.artifacts.put(f"runs/{paused.id}/checkpoints/step-7/adapter_config.json", b"{}")
    world.write(paused, metrics=step_metrics(7, seconds_left=60.0))
    world.write(paused, checkpoint=step_metrics(7))
    world.cluster.end(paused.submission_id, SubmissionState.STOPPED)

    steps(world)

    (checkpoint,) = world.store.list_checkpoints(paused.id, after=None, limit=5).items
    assert checkpoint.step == 7
    assert world.job(paused).estimated_finish is None


def test_a_resumed_job_is_launched_again_without_counting_as_a_crash(
    world: World, paused: Job
) -> None:
    steps(world)
    world.store.resume_job(paused.id)

    again = world.running(paused)

    assert (again.attempt, again.crashes, again.stopping) == (2, 0, False)
    assert world.messages(paused)[-4:] == [
        "Fine-tuning job started",
        "Fine-tuning job paused",
        "Fine-tuning job resumed, moving job to queued state",
        "Fine-tuning job started again (attempt 2)",
    ]


def test_a_job_resumed_while_its_attempt_still_ends_waits_for_that_end(
    world: World, paused: Job
) -> None:
    world.cluster.obeys_stop = False
    steps(world)
    world.store.resume_job(paused.id)
    steps(world)
    assert world.job(paused).attempt == 1
    assert world.job(paused).status is JobStatus.QUEUED

    world.cluster.end(paused.submission_id, SubmissionState.STOPPED)
    steps(world, 1)

    assert world.running(paused).attempt == 2


def test_a_job_paused_again_while_its_attempt_still_ends_stays_paused(
    world: World, paused: Job
) -> None:
    world.cluster.obeys_stop = False
    steps(world)
    world.store.resume_job(paused.id)
    world.store.pause_job(paused.id)
    world.cluster.end(paused.submission_id, SubmissionState.STOPPED)

    steps(world)

    assert world.job(paused).status is JobStatus.PAUSED
    assert len(world.cluster.submissions) == 1


def test_a_job_paused_while_it_waits_is_not_launched(world: World) -> None:
    job = world.step_until(world.add_job(), JobStatus.QUEUED)
    world.store.pause_job(job.id)
    steps(world)
    assert world.cluster.submissions == []

    world.store.resume_job(job.id)

    assert world.running(job).attempt == 1


def test_a_job_paused_between_its_launch_and_its_start_is_stopped(world: World) -> None:
    job = world.launched(world.add_job())
    world.store.pause_job(job.id)

    steps(world)

    assert world.cluster.stopped == [job.submission_id]
    assert not world.job(job).submission_open


def test_a_job_paused_before_its_submission_reached_the_cluster_is_not_submitted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = world.step_until(world.add_job(), JobStatus.QUEUED)

    def fail(_: object) -> None:
        raise ClusterUnavailableError

    with monkeypatch.context() as patch:
        patch.setattr(world.cluster, "submit", fail)
        world.controller.step()
    world.store.pause_job(job.id)
    world.controller = world.new_controller()

    steps(world)

    assert world.cluster.submissions == []
    assert not world.job(job).submission_open


def test_a_run_that_had_succeeded_when_it_was_paused_keeps_its_result(
    world: World, paused: Job
) -> None:
    world.report_success(paused)

    assert world.step_until(paused, JobStatus.SUCCEEDED).trained_tokens == 123


def test_a_run_that_had_succeeded_when_it_was_paused_and_resumed_is_not_run_again(
    world: World, paused: Job
) -> None:
    world.report_success(paused)
    world.store.resume_job(paused.id)

    assert world.step_until(paused, JobStatus.SUCCEEDED).attempt == 1


def test_a_run_that_had_failed_when_it_was_paused_keeps_its_error(
    world: World, paused: Job
) -> None:
    error = JobError(code=FailureCode.LOSS_NOT_FINITE, message="at step 3")
    world.write(paused, outcome=RunOutcome(error=error))

    assert world.step_until(paused, JobStatus.FAILED).error == error


def test_a_cancelled_pause_still_ends_the_attempt(world: World, paused: Job) -> None:
    world.store.cancel_job(paused.id, now=1)

    steps(world)

    assert world.cluster.stopped == [paused.submission_id]
    assert world.store.open_jobs() == []


def test_an_idle_paused_job_can_be_cancelled(world: World, paused: Job) -> None:
    steps(world)
    world.store.cancel_job(paused.id, now=1)

    steps(world)

    assert world.store.open_jobs() == []


def test_while_the_cluster_does_not_answer_the_attempt_is_not_given_up(
    world: World, paused: Job
) -> None:
    world.cluster.unavailable = True
    steps(world)
    assert world.job(paused).submission_open

    world.cluster.unavailable = False
    steps(world)

    assert not world.job(paused).submission_open


def test_a_cluster_that_lost_the_paused_attempt_costs_nothing(world: World, paused: Job) -> None:
    world.cluster.lose()
    steps(world)
    world.store.resume_job(paused.id)

    assert world.running(paused).attempt == 2


def test_a_pause_under_the_controllers_hands_is_left_to_the_next_pass(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = world.launched(world.add_job())
    world.cluster.begin(job.submission_id)
    status = world.cluster.status

    def pause_and_resume(submission_id: str) -> object:
        monkeypatch.setattr(world.cluster, "status", status)
        world.store.pause_job(job.id)
        world.store.resume_job(job.id)
        return status(submission_id)

    monkeypatch.setattr(world.cluster, "status", pause_and_resume)
    world.controller.step()

    assert world.job(job).status is JobStatus.QUEUED
    steps(world, 2)
    assert world.cluster.stopped == [job.submission_id]
    assert world.running(job).attempt == 2


class KilledError(BaseException):
    """The controller is killed; no handler of its own may catch this."""


def resume_when_idle(world: World, job: Job) -> None:
    for _ in range(9):
        world.controller.step()
        now = world.job(job)
        if now.status is JobStatus.PAUSED and not now.submission_open:
            world.store.resume_job(job.id)


DEADLY: dict[str, Callable[[World], tuple[object, str]]] = {
    "before the stop": lambda world: (world.cluster, "stop"),
    "before the release": lambda world: (type(world.store), "change_job"),
    "before the submission": lambda world: (world.cluster, "submit"),
}


@pytest.mark.parametrize("moment", DEADLY)
def test_a_controller_killed_at_any_step_of_it_is_followed_by_one_that_goes_on(
    world: World, paused: Job, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    place, name = DEADLY[moment](world)

    def die(*_: object, **__: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(place, name, die)
        with pytest.raises(KilledError):
            resume_when_idle(world, paused)
    world.controller = world.new_controller()
    steps(world)
    if world.job(paused).status is JobStatus.PAUSED:
        world.store.resume_job(paused.id)

    again = world.running(paused)

    assert (again.attempt, again.crashes) == (2, 0)
    assert len({each.id for each in world.cluster.submissions}) == 2
