from __future__ import annotations

import pytest

from tunesmith.cluster.fake import empty_node
from tunesmith.cluster.protocol import SubmissionState
from tunesmith.domain.events import RunOutcome
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.jobs import JobChange, JobError, JobStatus
from tunesmith.domain.spec import JobRequest
from tunesmith.store.tables import FILES
from unit.controller.world import World, good_rows, step_metrics


def test_a_job_goes_through_every_status_and_each_has_its_event(world: World) -> None:
    job = world.running(world.add_job())
    world.report_success(job)

    done = world.step_until(job, JobStatus.SUCCEEDED)

    assert done.fine_tuned_model == "ft:base:org::ftjob1"
    assert done.trained_tokens == 123
    assert done.finished_at == int(world.clock.now())
    assert world.messages(job) == [
        "Created fine-tuning job: ftjob-1",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
        "New fine-tuned model created: ft:base:org::ftjob1",
        "The job has successfully completed",
    ]
    assert world.store.tuned_model("ft:base:org::ftjob1").key == "output/ftjob-1"


def test_the_metrics_table_becomes_a_result_file(world: World) -> None:
    job = world.running(world.add_job())
    world.report_success(job)
    done = world.step_until(job, JobStatus.SUCCEEDED)

    results = world.store.file(done.result_files[0])

    assert results.purpose == "fine-tune-results"
    assert world.artifacts.get(results.key).startswith(b"step,train_loss\n")
    assert results.bytes == len(world.artifacts.get(results.key))


def test_a_bad_training_file_fails_the_job_and_names_the_line(world: World) -> None:
    job = world.add_job(rows=[*good_rows(), {"instruction": "x"}])

    failed = world.step_until(job, JobStatus.FAILED)

    assert failed.error is not None
    assert failed.error.code is FailureCode.INVALID_TRAINING_FILE
    assert failed.error.param == "training_file"
    assert "'alpaca.jsonl'" in failed.error.message
    assert "ine 13" in failed.error.message
    assert world.cluster.submissions == []


def test_a_validation_file_may_be_short_but_not_bad(world: World) -> None:
    job = world.add_job()
    short = world.add_file(good_rows(2), "short.jsonl")
    bad = world.add_file([{"prompt": 1}], "bad.jsonl")
    for number, file in enumerate((short, bad)):
        copy = job.model_copy(update={"id": f"ftjob-v{number}", "validation_file": file.id})
        world.store.add_job(copy)

    world.step_until(world.store.job("ftjob-v0"), JobStatus.QUEUED)
    failed = world.step_until(world.store.job("ftjob-v1"), JobStatus.FAILED)

    assert failed.error is not None
    assert failed.error.code is FailureCode.INVALID_VALIDATION_FILE


def test_a_training_file_whose_bytes_are_gone_fails_the_job_and_not_the_controller(
    world: World,
) -> None:
    job = world.add_job()
    world.artifacts.delete(world.store.file(job.training_file).key)

    failed = world.step_until(job, JobStatus.FAILED)

    assert failed.error is not None
    assert "no bytes" in failed.error.message


def test_a_job_whose_file_was_deleted_meanwhile_fails_and_names_it(world: World) -> None:
    job = world.add_job()
    # As if it had been deleted between the request's look at it and the job's first row.
    with world.store._engine.begin() as connection:
        connection.execute(FILES.delete())

    failed = world.step_until(job, JobStatus.FAILED)

    assert failed.error is not None
    assert job.training_file in failed.error.message


def test_the_submission_runs_the_training_program_on_all_processors(world: World) -> None:
    job = world.launched(world.add_job())

    (submission,) = world.cluster.submissions

    assert submission.id == "ftjob-1-1"
    assert submission.cpus == 2.0
    assert submission.command == (
        *("python", "-m", "tunesmith.training.start"),
        *("--job", "ftjob-1", "--attempt", "1", "--artifacts", "/data"),
    )
    world.run_of(job).check_claim(1)


def test_the_frozen_spec_holds_what_the_hyperparameters_became(world: World) -> None:
    request = JobRequest(n_epochs=2, learning_rate_multiplier=2.0, suffix="mine")
    job = world.launched(world.add_job(request=request))

    spec = world.run_of(job).read_spec()

    assert job.resolved is not None
    assert (spec.n_epochs, spec.batch_size, spec.learning_rate) == (2, 4, 1e-3)
    assert spec.learning_rate == job.resolved.learning_rate
    assert spec.tuned_model == "ft:base:org:mine:ftjob1"
    assert (spec.seed, spec.cpus) == (1, 2)


def test_a_job_that_no_node_can_hold_is_refused_with_the_largest_node(world: World) -> None:
    job = world.add_job(request=JobRequest(cpus=32))

    failed = world.step_until(job, JobStatus.FAILED)

    assert failed.error is not None
    assert failed.error.code is FailureCode.RESOURCES_UNAVAILABLE
    assert "32 CPUs" in failed.error.message
    assert "the largest has 2" in failed.error.message


def test_a_second_job_waits_for_the_processors_and_then_runs(world: World) -> None:
    first = world.running(world.add_job())
    second = world.step_until(world.add_job(), JobStatus.QUEUED)
    for _ in range(3):
        world.controller.step()
    assert world.job(second).attempt == 0

    world.report_success(first)
    world.cluster.end(first.submission_id, SubmissionState.SUCCEEDED)
    world.step_until(first, JobStatus.SUCCEEDED)
    world.running(second)


def test_a_small_job_does_not_overtake_one_that_waits_for_more(world: World) -> None:
    world.cluster.nodes = (empty_node("n", cpus=4.0),)
    world.running(world.add_job(request=JobRequest(cpus=2)))
    large = world.step_until(world.add_job(request=JobRequest(cpus=4)), JobStatus.QUEUED)
    small = world.step_until(world.add_job(request=JobRequest(cpus=1)), JobStatus.QUEUED)

    for _ in range(3):
        world.controller.step()

    assert (world.job(large).attempt, world.job(small).attempt) == (0, 0)


def test_a_killed_training_process_is_launched_again(world: World) -> None:
    job = world.running(world.add_job())
    world.cluster.end(job.submission_id, SubmissionState.FAILED, message="exit code -9")

    again = world.running(job)

    assert (again.attempt, again.crashes) == (2, 1)
    assert any("died (exit code -9)" in message for message in world.messages(job))
    assert "Fine-tuning job started again (attempt 2)" in world.messages(job)
    world.run_of(job).check_claim(2)


def test_a_job_whose_process_dies_again_and_again_fails(world: World) -> None:
    job = world.add_job()
    for _ in range(3):
        running = world.running(job)
        world.cluster.end(running.submission_id, SubmissionState.FAILED, message="exit code -9")
        world.controller.step()

    failed = world.step_until(job, JobStatus.FAILED)

    assert failed.error is not None
    assert failed.error.code is FailureCode.WORKER_LOST
    assert "launched 3 times" in failed.error.message


def test_a_cluster_that_forgot_its_submissions_costs_no_retry(world: World) -> None:
    job = world.add_job()
    for _ in range(5):
        world.running(job)
        world.cluster.lose()
        world.controller.step()

    assert world.running(job).crashes == 0


def test_while_the_cluster_does_not_answer_nothing_is_decided(world: World) -> None:
    job = world.running(world.add_job())
    waiting = world.step_until(world.add_job(), JobStatus.QUEUED)
    world.cluster.unavailable = True

    for _ in range(3):
        world.controller.step()

    assert world.job(job) == job
    assert world.job(waiting).attempt == 0
    world.cluster.unavailable = False
    world.report_success(job)
    world.step_until(job, JobStatus.SUCCEEDED)


def test_files_are_validated_while_the_cluster_still_starts(world: World) -> None:
    world.cluster.unavailable = True

    world.step_until(world.add_job(), JobStatus.QUEUED)


def test_a_run_that_reports_a_failure_is_not_launched_again(world: World) -> None:
    job = world.running(world.add_job())
    error = JobError(code=FailureCode.LOSS_NOT_FINITE, message="at step 3")
    world.write(job, outcome=RunOutcome(error=error))
    world.cluster.end(job.submission_id, SubmissionState.FAILED, message="exit code 1")

    failed = world.step_until(job, JobStatus.FAILED)

    assert failed.error == error
    assert len(world.cluster.submissions) == 1
    assert "at step 3" in world.messages(job)


def test_a_run_that_ended_before_it_was_seen_running_still_counts(world: World) -> None:
    job = world.launched(world.add_job())
    world.report_success(job)
    world.cluster.end(job.submission_id, SubmissionState.SUCCEEDED)

    world.step_until(job, JobStatus.SUCCEEDED)

    assert "Fine-tuning job started" in world.messages(job)


def test_metrics_and_checkpoints_of_a_run_are_ingested_once(world: World) -> None:
    job = world.running(world.add_job())
    world.write(job, metrics=step_metrics(1, seconds_left=90.0))
    world.artifacts.put(f"runs/{job.id}/checkpoints/step-1/adapter_config.json", b"{}")
    world.write(job, checkpoint=step_metrics(1))

    for _ in range(3):
        world.controller.step()

    assert world.job(job).estimated_finish == int(world.clock.now()) + 90
    (checkpoint,) = world.store.list_checkpoints(job.id, after=None, limit=10).items
    assert checkpoint.model == "ft:base:org::ftjob1:ckpt-step-1"
    assert checkpoint.key == "output/ftjob-1/checkpoint-1"
    assert len(world.messages(job)) == 5


def test_a_checkpoint_that_the_run_dropped_is_forgotten(world: World) -> None:
    job = world.running(world.add_job())
    for step in (1, 2):
        key = f"runs/{job.id}/checkpoints/step-{step}"
        world.artifacts.put(f"{key}/adapter_config.json", b"{}")
        world.write(job, checkpoint=step_metrics(step))
    world.run_of(job).drop_checkpoint(1)

    world.controller.step()

    kept = world.store.list_checkpoints(job.id, after=None, limit=10).items
    assert [checkpoint.step for checkpoint in kept] == [2]


def test_cancelling_a_running_job_stops_its_attempt_and_gives_it_up(world: World) -> None:
    job = world.running(world.add_job())
    world.store.cancel_job(job.id, now=int(world.clock.now()))

    world.controller.step()
    world.controller.step()

    assert world.cluster.stopped == [job.submission_id]
    assert world.job(job).status is JobStatus.CANCELLED
    assert not world.job(job).submission_open
    assert world.store.open_jobs() == []


def test_a_job_cancelled_while_queued_never_reaches_the_cluster(world: World) -> None:
    job = world.step_until(world.add_job(), JobStatus.QUEUED)
    world.store.cancel_job(job.id, now=1)

    world.controller.step()

    assert world.cluster.submissions == []


@pytest.mark.parametrize("status", [JobStatus.QUEUED, JobStatus.RUNNING])
def test_a_new_controller_takes_up_where_the_old_one_died(world: World, status: JobStatus) -> None:
    job = world.launched(world.add_job())
    if status is JobStatus.RUNNING:
        world.cluster.begin(job.submission_id)
        world.step_until(job, status)

    world.controller = world.new_controller()
    world.report_success(job)

    done = world.step_until(job, JobStatus.SUCCEEDED)
    assert done.attempt == 1
    assert len(world.cluster.submissions) == 1


def test_an_attempt_written_down_but_never_submitted_is_submitted(world: World) -> None:
    job = world.launched(world.add_job())
    world.cluster.lose()
    world.controller = world.new_controller()

    world.controller.step()

    assert [each.id for each in world.cluster.submissions] == ["ftjob-1-1", "ftjob-1-1"]
    assert world.job(job).attempt == 1


def test_an_outcome_ingested_by_a_controller_that_then_died_is_acted_upon(world: World) -> None:
    job = world.running(world.add_job())
    world.report_success(job)
    world.store.ingest(job.id, world.run_of(job).events(after=0), checkpoints=[])

    world.controller = world.new_controller()

    world.step_until(job, JobStatus.SUCCEEDED)


def test_a_finished_run_that_does_not_leave_is_stopped_after_a_grace(world: World) -> None:
    job = world.running(world.add_job())
    world.report_success(job)
    world.step_until(job, JobStatus.SUCCEEDED)
    world.controller.step()
    assert world.cluster.stopped == []

    world.clock.advance(31)
    world.controller.step()

    assert world.cluster.stopped == [job.submission_id]


def test_pausing_stops_every_attempt_and_no_job_is_lost(world: World) -> None:
    job = world.running(world.add_job())

    world.controller.pause_all(patience=1)
    world.controller = world.new_controller()

    assert world.running(job).attempt == 2
    assert world.job(job).crashes == 0


def test_the_spec_stays_frozen_over_attempts_even_if_the_cluster_grows(world: World) -> None:
    job = world.running(world.add_job())
    before = world.run_of(job).read_spec()
    world.cluster.nodes = (empty_node("big", cpus=64.0),)
    world.cluster.lose()

    world.running(job)

    assert world.run_of(job).read_spec() == before


def test_on_a_cluster_that_became_smaller_the_job_takes_what_is_there(world: World) -> None:
    job = world.running(world.add_job())
    world.cluster.nodes = (empty_node("small", cpus=1.0),)
    world.cluster.lose()

    world.running(job)

    assert world.run_of(job).read_spec().cpus == 1
    assert world.cluster.submissions[-1].cpus == 1.0


def test_a_job_changed_under_the_controllers_hands_is_left_to_the_next_pass(world: World) -> None:
    job = world.launched(world.add_job())
    world.store.change_job(world.job(job), JobChange(status=JobStatus.CANCELLED))

    world.controller.step()

    assert world.job(job).status is JobStatus.CANCELLED
