"""An estimate is measured on the cluster, and ends with what was found or with why not."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tunesmith.cluster.fake import empty_node
from tunesmith.cluster.protocol import Coming, SubmissionState
from tunesmith.controller.estimates import PATIENCE
from tunesmith.domain.changes import Change
from tunesmith.domain.estimates import USUAL_FACTORS, Estimate, EstimateStatus, Measurement
from tunesmith.domain.events import RunOutcome
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.ids import Dialect
from tunesmith.domain.jobs import Job, JobError, JobStatus
from tunesmith.domain.spec import EarlyStopping, JobRequest
from unit.controller.world import World, good_rows, step_metrics

FOUND = Measurement(
    peak_memory=10**9,
    startup_seconds=2.0,
    longest_step_seconds=4.0,
    step_seconds=1.0,
    steps=90,
)


def ask(
    world: World, *, rows: list[object] | None = None, request: JobRequest | None = None
) -> Estimate:
    """Ask an estimate of a job, as the API does."""
    world.jobs_made += 1
    file = world.add_file(good_rows() if rows is None else rows)
    name = f"ftestimate-{world.jobs_made}"
    job = Job(
        id=name,
        dialect=Dialect.OPENAI,
        created_at=0,
        status=JobStatus.VALIDATING_FILES,
        model="base",
        training_file=file.id,
        training_filename=file.filename,
        request=request or JobRequest(cpus=1),
        seed=1,
        organization="org",
    )
    estimate = Estimate(id=name, created_at=0, job=job)
    world.store.add_estimate(estimate)
    return estimate


def until(world: World, estimate: Estimate, status: EstimateStatus) -> Estimate:
    deadline = time.monotonic() + 20
    while (now := world.store.estimate(estimate.id)).status is not status:
        assert time.monotonic() < deadline, now
        world.controller.step()
    return now


def until_true(world: World, look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not look():
        assert time.monotonic() < deadline
        world.clock.advance(1)
        world.controller.step()


def running(world: World, estimate: Estimate) -> Estimate:
    now = until(world, estimate, EstimateStatus.RUNNING)
    world.cluster.begin(now.job.submission_id)
    return now


def test_an_estimate_ends_with_what_its_run_measured_and_leaves_nothing(world: World) -> None:
    request = JobRequest(cpus=1, held_out_percent=10.0, early_stopping=EarlyStopping())
    estimate = running(world, ask(world, request=request))
    run = world.run_of(estimate.job)
    spec = run.read_spec()
    assert (spec.measured, spec.early_stopping, spec.held_out_percent) == (True, None, 10.0)
    [submission] = world.cluster.submissions
    assert submission.id == f"{estimate.id}-1"
    assert submission.command[3:] == (
        *("--job", estimate.id, "--attempt", "1", "--artifacts", "/data"),
    )
    run.write_measurement(FOUND)
    world.write(estimate.job, outcome=RunOutcome())
    world.controller.step()
    assert world.store.estimate(estimate.id).status is EstimateStatus.RUNNING
    world.cluster.end(submission.id, SubmissionState.SUCCEEDED)

    done = until(world, estimate, EstimateStatus.SUCCEEDED)

    assert (done.measurement, done.fits, done.error) == (FOUND, True, None)
    assert done.finished_at == int(world.clock.now())
    assert world.artifacts.list("runs") == []
    assert world.store.list_jobs(after=None, limit=5).items == ()


def test_what_finds_no_memory_does_not_fit_and_says_what_would(world: World) -> None:
    estimate = running(world, ask(world))
    change: Change = {"max_length": 64}
    error = JobError(code=FailureCode.OUT_OF_MEMORY, message="line 3", change=change)
    world.write(estimate.job, outcome=RunOutcome(error=error))
    world.cluster.end(estimate.job.submission_id, SubmissionState.FAILED)

    done = until(world, estimate, EstimateStatus.FAILED)

    assert (done.fits, done.error, done.measurement) == (False, error, None)


def test_what_is_killed_does_not_fit_either(world: World) -> None:
    estimate = running(world, ask(world))
    words = "Job entrypoint command failed with exit code -9"
    world.cluster.end(estimate.job.submission_id, SubmissionState.FAILED, message=words)

    done = until(world, estimate, EstimateStatus.FAILED)

    assert done.fits is False
    assert done.error is not None
    assert done.error.change == {"gradient_checkpointing": True}


@pytest.mark.parametrize("lost", ["head", "stopped"])
def test_a_measurement_that_was_lost_says_nothing_of_the_memory(world: World, lost: str) -> None:
    estimate = running(world, ask(world))
    if lost == "head":
        world.cluster.lose()
    else:
        world.cluster.end(estimate.job.submission_id, SubmissionState.STOPPED)

    done = until(world, estimate, EstimateStatus.FAILED)

    assert done.fits is None
    assert done.error is not None
    assert "Ask for another estimate" in done.error.message


def test_a_bad_file_ends_an_estimate_as_it_would_the_job(world: World) -> None:
    done = until(world, ask(world, rows=[{"nothing": 1}] * 12), EstimateStatus.FAILED)
    assert done.error is not None
    assert done.error.code is FailureCode.INVALID_TRAINING_FILE
    assert done.fits is None
    assert world.cluster.submissions == []


def test_a_file_that_is_gone_ends_an_estimate(world: World) -> None:
    estimate = ask(world)
    world.store.delete_file(estimate.job.training_file)
    done = until(world, estimate, EstimateStatus.FAILED)
    assert done.error is not None
    assert done.error.param == "training_file"


def test_what_no_node_could_hold_is_refused(world: World) -> None:
    done = until(world, ask(world, request=JobRequest(cpus=32)), EstimateStatus.FAILED)
    assert done.error is not None
    assert done.error.code is FailureCode.RESOURCES_UNAVAILABLE


def test_an_estimate_waits_for_processors_and_for_the_one_before(world: World) -> None:
    job = world.running(world.add_job())
    first, second = ask(world), ask(world)
    for _ in range(5):
        world.controller.step()
    assert len(world.cluster.submissions) == 1

    world.report_success(job)
    world.cluster.end(job.submission_id, SubmissionState.SUCCEEDED)
    running(world, first)
    for _ in range(5):
        world.controller.step()

    assert world.store.estimate(second.id).status is EstimateStatus.QUEUED


def test_what_only_a_node_to_come_could_hold_waits_for_it_and_asks_for_it(world: World) -> None:
    world.cluster.coming = (Coming(name="large", resources={"CPU": 8.0}, more=1),)
    estimate = ask(world, request=JobRequest(cpus=8))
    until_true(world, lambda: bool(world.cluster.submissions))
    [request] = world.cluster.submissions
    assert request.command[2:] == ("tunesmith.cluster.nodes", '[[1, {"CPU": 8.0}]]')

    world.cluster.nodes += (empty_node("added", cpus=8.0),)
    world.cluster.coming = ()

    running(world, estimate)


def test_for_what_fits_on_busy_nodes_an_estimate_has_none_added(world: World) -> None:
    world.cluster.coming = (Coming(name="large", resources={"CPU": 8.0}, more=1),)
    world.running(world.add_job())
    ask(world)
    for _ in range(50):
        world.clock.advance(1)
        world.controller.step()
    assert len(world.cluster.submissions) == 1


def test_an_estimate_of_several_workers_waits_until_there_is_room_for_all_of_them(
    world: World,
) -> None:
    world.cluster.nodes = (empty_node("node-1", cpus=2.0), empty_node("node-2", cpus=2.0))
    job = world.running(world.add_job())
    estimate = ask(world, request=JobRequest(cpus=2, workers=2))
    for _ in range(50):
        world.controller.step()
    assert len(world.cluster.submissions) == 1

    world.report_success(job)
    world.cluster.end(job.submission_id, SubmissionState.SUCCEEDED)

    running(world, estimate)


def test_a_measurement_that_does_not_end_is_stopped(world: World) -> None:
    estimate = running(world, ask(world))
    world.clock.advance(PATIENCE + 1)

    until(world, estimate, EstimateStatus.FAILED)

    assert world.cluster.stopped == [estimate.job.submission_id]


def test_a_measurement_that_cannot_be_read_ends_and_harms_no_job(world: World) -> None:
    estimate = running(world, ask(world))
    world.write(estimate.job, outcome=RunOutcome())
    world.cluster.end(estimate.job.submission_id, SubmissionState.SUCCEEDED)
    done = until(world, estimate, EstimateStatus.FAILED)
    assert done.error is not None
    assert done.error.code is FailureCode.INTERNAL_ERROR
    world.running(world.add_job())


def test_a_controller_that_comes_back_goes_on_with_an_estimate(world: World) -> None:
    estimate = running(world, ask(world))
    world.controller = world.new_controller()
    world.run_of(estimate.job).write_measurement(FOUND)
    world.write(estimate.job, outcome=RunOutcome())
    world.cluster.end(estimate.job.submission_id, SubmissionState.SUCCEEDED)
    until(world, estimate, EstimateStatus.SUCCEEDED)


def measured(world: World, estimate: Estimate) -> Estimate:
    """Let the estimate end with `FOUND`."""
    running(world, estimate)
    world.run_of(estimate.job).write_measurement(FOUND)
    world.write(estimate.job, outcome=RunOutcome())
    world.cluster.end(f"{estimate.id}-1", SubmissionState.SUCCEEDED)
    return until(world, estimate, EstimateStatus.SUCCEEDED)


def run_job(world: World, estimate: Estimate, *, seconds: int, request: JobRequest) -> None:
    """Run a job on the file of the estimate, a step of which takes so many seconds."""
    name = f"ftjob-{estimate.id}"
    job = estimate.job.model_copy(update={"id": name, "request": request, "attempt": 0})
    world.store.add_job(job.model_copy(update={"resolved": None}))
    launched = world.running(job)
    for step in range(1, 12):
        world.write(job, metrics=step_metrics(step))
        world.clock.advance(seconds)
    world.report_success(job)
    world.step_until(job, JobStatus.SUCCEEDED)
    world.cluster.end(launched.submission_id, SubmissionState.SUCCEEDED)
    world.controller.step()


def test_finished_jobs_teach_the_next_estimates(world: World) -> None:
    request = JobRequest(cpus=1)
    for seconds in (2, 3, 4):
        estimate = measured(world, ask(world, request=request))
        assert estimate.factors == USUAL_FACTORS
        run_job(world, estimate, seconds=seconds, request=request)
        assert world.store.estimate(estimate.id).actual_step_seconds == seconds

    # A step was measured to take a second; the jobs took from 2 to 4.
    assert measured(world, ask(world)).factors == pytest.approx((1.8, 4.4))


def test_a_job_of_another_request_teaches_nothing(world: World) -> None:
    estimate = measured(world, ask(world, request=JobRequest(cpus=1)))
    run_job(world, estimate, seconds=2, request=JobRequest(cpus=1, max_length=64))
    assert world.store.estimate(estimate.id).actual_step_seconds is None
