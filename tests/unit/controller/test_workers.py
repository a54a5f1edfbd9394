"""Jobs with several workers: what they hold, when they start, and what becomes of a lost one."""

from __future__ import annotations

import pytest

from tunesmith.cluster.fake import empty_node
from tunesmith.cluster.protocol import Resources, SubmissionState
from tunesmith.controller.resolve import resolve_grant
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.failures import EXIT_NO_DATA, EXIT_NODE_LOST, EXIT_WORKER_LOST, FailureCode
from tunesmith.domain.jobs import JobStatus
from tunesmith.domain.spec import JobRequest
from unit.controller.world import RETRIES, World


def test_each_of_several_workers_gets_as_many_processors_as_let_all_find_a_place() -> None:
    nodes = (empty_node("a", cpus=4), empty_node("b", cpus=16))
    resources = Resources(nodes=nodes)

    found = [resolve_grant(JobRequest(workers=count), resources).cpus for count in (1, 2, 3, 5, 20)]

    assert found == [16, 8, 5, 4, 1]
    assert resolve_grant(JobRequest(cpus=6, workers=2), resources).cpus == 6


def test_fewer_workers_do_where_the_job_says_so_and_no_fewer_than_it_says() -> None:
    nodes = (empty_node("a", cpus=4), empty_node("b", cpus=16))
    resources = Resources(nodes=nodes)

    assert resolve_grant(JobRequest(workers=8, min_workers=1, cpus=4), resources) == (5, 4)
    assert resolve_grant(JobRequest(workers=8, min_workers=5, cpus=4), resources) == (5, 4)
    with pytest.raises(InvalidRequestError, match="no room for 6 workers of 4 CPUs each"):
        resolve_grant(JobRequest(workers=8, min_workers=6, cpus=4), resources)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (JobRequest(cpus=6, workers=3), "no room for 3 workers of 6 CPUs each"),
        (JobRequest(workers=21), "no room for 21 workers of 1 CPUs each"),
    ],
)
def test_more_workers_than_find_a_place_are_refused(asked: JobRequest, words: str) -> None:
    nodes = (empty_node("a", cpus=4), empty_node("b", cpus=16))

    with pytest.raises(InvalidRequestError, match=words) as refused:
        resolve_grant(asked, Resources(nodes=nodes))

    assert refused.value.param == "workers"


def test_several_workers_hold_the_processors_and_their_driver_none(world: World) -> None:
    world.cluster.nodes = tuple(empty_node(id, cpus=4.0) for id in "ab")
    job = world.launched(world.add_job(request=JobRequest(cpus=3, workers=2)))

    (submission,) = world.cluster.submissions

    assert (submission.cpus, submission.drives) == (6.0, True)
    spec = world.run_of(job).read_spec()
    assert (spec.cpus, spec.workers) == (3, 2)


def test_a_job_waits_until_the_processors_of_all_its_workers_are_free(world: World) -> None:
    world.cluster.nodes = tuple(empty_node(id, cpus=4.0) for id in "ab")
    small = world.running(world.add_job(request=JobRequest(cpus=3)))
    large = world.step_until(world.add_job(request=JobRequest(cpus=3, workers=2)), JobStatus.QUEUED)
    for _ in range(3):
        world.controller.step()
    assert world.job(large).attempt == 0

    world.cluster.end(small.submission_id, SubmissionState.SUCCEEDED)
    world.report_success(small)
    world.running(large)


def test_more_workers_than_the_cluster_holds_are_refused_with_the_mend(world: World) -> None:
    job = world.add_job(request=JobRequest(cpus=2, workers=2))

    failed = world.step_until(job, JobStatus.FAILED)

    assert failed.error is not None
    assert failed.error.code is FailureCode.RESOURCES_UNAVAILABLE
    assert (failed.error.param, failed.error.change) == (
        "workers",
        {"workers": 1, "min_workers": None},
    )
    assert "no room for 2 workers of 2 CPUs each" in failed.error.message


def test_a_lost_worker_is_told_in_words_and_the_job_is_launched_again(world: World) -> None:
    job = world.running(world.add_job(request=JobRequest(cpus=1, workers=2)))
    message = f"Job entrypoint command failed with exit code {EXIT_WORKER_LOST}, last logs: …"
    world.cluster.end(job.submission_id, SubmissionState.FAILED, message=message)

    assert world.running(job).attempt == 2

    told = "A worker of attempt 1 died. The job goes on from its last checkpoint."
    assert told in world.messages(job)
    assert world.job(job).crashes == 1


def test_after_a_loss_fewer_workers_go_on_and_again_more_once_there_is_room(world: World) -> None:
    both = tuple(empty_node(id, cpus=4.0) for id in "ab")
    world.cluster.nodes = both
    job = world.running(world.add_job(request=JobRequest(workers=2, min_workers=1, cpus=4)))

    held = []
    for nodes in (both[:1], both):
        world.cluster.nodes = nodes
        world.cluster.lose()
        world.running(job)
        held.append((world.cluster.submissions[-1].cpus, world.run_of(job).read_spec().workers))

    assert held == [(4.0, 1), (8.0, 2)]


def test_a_job_with_a_fixed_number_of_workers_waits_for_its_node(world: World) -> None:
    both = tuple(empty_node(id, cpus=4.0) for id in "ab")
    world.cluster.nodes = both
    job = world.running(world.add_job(request=JobRequest(workers=2, cpus=4)))
    world.cluster.nodes = both[:1]
    world.cluster.lose()
    for _ in range(3):
        world.controller.step()
    assert world.job(job).status is JobStatus.QUEUED

    world.cluster.nodes = both

    world.running(job)


@pytest.mark.parametrize(
    ("workers", "message", "lost"),
    [
        pytest.param(
            2,
            f"Job entrypoint command failed with exit code {EXIT_NODE_LOST}, last logs: …",
            "A node of attempt 1 was lost.",
            id="as the driver of several workers says",
        ),
        pytest.param(
            1,
            "Job supervisor actor died: The actor died unexpectedly before finishing this task.\n"
            "\tclass_name: JobSupervisor\nThe actor died because its node has died. Node Id: ed05\n"
            "\tthe actor's node was terminated unexpectedly",
            "The node of attempt 1 was lost.",
            id="as Ray says of a lone worker",
        ),
    ],
)
def test_a_lost_node_costs_no_retry(world: World, workers: int, message: str, lost: str) -> None:
    job = world.running(world.add_job(request=JobRequest(cpus=1, workers=workers)))
    world.cluster.end(job.submission_id, SubmissionState.FAILED, message=message)

    assert world.running(job).attempt == 2

    assert f"{lost} The job goes on from its last checkpoint." in world.messages(job)
    assert world.job(job).crashes == 0


def test_what_ray_says_in_many_lines_is_told_in_one(world: World) -> None:
    job = world.running(world.add_job(request=JobRequest(cpus=1)))
    message = "Job supervisor actor died: somehow.\n\tclass_name: JobSupervisor"
    world.cluster.end(job.submission_id, SubmissionState.FAILED, message=message)

    world.running(job)

    told = "The training process of attempt 1 died (Job supervisor actor died: somehow.)."
    assert any(text.startswith(told) for text in world.messages(job))


def test_a_node_without_the_data_folder_is_named_and_another_may_have_it(world: World) -> None:
    job = world.add_job(request=JobRequest(cpus=1))
    line = "Node b (10.0.0.2) does not have the data folder /data: let all nodes share it."
    message = (
        f"Job entrypoint command failed with exit code {EXIT_NO_DATA}, last available logs "
        f"(truncated to 20,000 chars):\n{line}\n"
    )
    for attempt in range(1, RETRIES + 2):
        assert world.running(job).attempt == attempt
        world.cluster.end(world.job(job).submission_id, SubmissionState.FAILED, message=message)
    failed = world.step_until(job, JobStatus.FAILED)

    assert f"{line} The job goes on from its last checkpoint." in world.messages(job)
    assert failed.error is not None
    assert failed.error.code is FailureCode.RESOURCES_UNAVAILABLE
    assert failed.error.message.startswith(f"{line} The job was launched {RETRIES + 1} times.")
