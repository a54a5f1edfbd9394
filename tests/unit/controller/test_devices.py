"""Devices beside processors: what a job holds of them, and where it finds a place."""

from __future__ import annotations

import re

import pytest

from tunesmith.cluster.fake import empty_node
from tunesmith.cluster.protocol import Resources, SubmissionState
from tunesmith.controller.resolve import resolve_grant
from tunesmith.domain.devices import Device
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.jobs import JobStatus
from tunesmith.domain.spec import JobRequest
from unit.controller.test_queue import in_line, planned, running, waiting
from unit.controller.test_turns import told
from unit.controller.world import World

CLUSTER = Resources(
    nodes=(
        empty_node("plain", cpus=64),
        empty_node("gaudis", cpus=32, HPU=8.0),
        empty_node("card", cpus=12, GPU=1.0),
    )
)


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        (JobRequest(), (1, 64)),
        (JobRequest(device=Device.HPU), (1, 4)),
        (JobRequest(device=Device.HPU, workers=8), (8, 4)),
        (JobRequest(device=Device.HPU, workers=2, cpus=16), (2, 16)),
        (JobRequest(device=Device.HPU, workers=20, min_workers=1), (8, 4)),
        (JobRequest(device=Device.CUDA), (1, 12)),
        (JobRequest(device=Device.XPU, cpus=1), (1, 1)),
    ],
)
def test_a_worker_gets_the_processors_beside_its_device_that_no_other_would(
    asked: JobRequest, granted: tuple[int, int]
) -> None:
    assert resolve_grant(asked, CLUSTER) == granted


def test_nodes_that_are_unlike_leave_no_device_over() -> None:
    nodes = (empty_node("a", cpus=128, GPU=8.0), empty_node("b", cpus=32, GPU=1.0))

    assert resolve_grant(JobRequest(device=Device.CUDA), Resources(nodes=nodes)) == (1, 16)


def test_jobs_on_processors_are_as_large_as_nodes_without_devices_let_them() -> None:
    nodes = (empty_node("plain", cpus=16), empty_node("gaudis", cpus=64, HPU=8.0))

    assert resolve_grant(JobRequest(), Resources(nodes=nodes)) == (1, 16)
    assert resolve_grant(JobRequest(cpus=64), Resources(nodes=nodes)) == (1, 64)
    assert resolve_grant(JobRequest(), Resources(nodes=nodes[1:])) == (1, 64)


@pytest.mark.parametrize(
    ("asked", "param", "words"),
    [
        (
            JobRequest(device=Device.CUDA, workers=2),
            "workers",
            "no room for 2 workers of 1 CPUs and one GPU each",
        ),
        (
            JobRequest(device=Device.HPU, workers=9),
            "workers",
            "no room for 9 workers of 1 CPUs and one HPU each",
        ),
        (
            JobRequest(device=Device.CUDA, cpus=13),
            "cpus",
            "No node of the cluster has 13 CPUs beside a GPU; the largest has 12.",
        ),
        (
            JobRequest(device=Device.HPU, memory=2 * 10**12),
            "memory",
            "the largest has 1000000000000",
        ),
    ],
)
def test_what_no_node_could_ever_hold_is_refused_by_name(
    asked: JobRequest, param: str, words: str
) -> None:
    with pytest.raises(InvalidRequestError, match=re.escape(words)) as refused:
        resolve_grant(asked, CLUSTER)

    assert refused.value.param == param


def test_a_device_that_no_node_has_is_refused_with_the_largest_node_and_a_mend(
    world: World,
) -> None:
    world.cluster.nodes = (empty_node("a", cpus=4.0, HPU=2.0), empty_node("b", cpus=2.0))

    failed = world.step_until(
        world.add_job(request=JobRequest(device=Device.CUDA)), JobStatus.FAILED
    )

    assert failed.error is not None
    assert failed.error.code is FailureCode.RESOURCES_UNAVAILABLE
    assert (failed.error.param, failed.error.change) == ("device", {"device": "cpu"})
    assert "No node of the cluster has a GPU, which device 'cuda' needs" in failed.error.message
    assert "the largest has 4 CPU, 2 HPU" in failed.error.message


def test_a_lone_worker_holds_its_device_and_is_no_warm_process(world: World) -> None:
    world.cluster.nodes = (empty_node("a", cpus=4.0, HPU=1.0),)
    job = world.launched(world.add_job(request=JobRequest(device=Device.HPU)))

    (submission,) = world.cluster.submissions

    assert (submission.device, submission.cpus) == ("HPU", 4.0)
    assert submission.command[:3] == ("python", "-m", "tunesmith.training")
    assert world.run_of(job).read_spec().device is Device.HPU


def test_the_driver_of_several_workers_leaves_their_devices_to_them(world: World) -> None:
    world.cluster.nodes = (empty_node("a", cpus=4.0, GPU=2.0),)
    world.launched(world.add_job(request=JobRequest(device=Device.CUDA, workers=2)))

    (submission,) = world.cluster.submissions

    assert (submission.device, submission.drives) == (None, True)


def test_a_job_waits_until_a_device_is_free_and_says_so(world: World) -> None:
    world.cluster.nodes = (empty_node("a", cpus=8.0, GPU=1.0),)
    asked = JobRequest(device=Device.CUDA, cpus=1)
    first = world.running(world.add_job(request=asked))
    second = world.step_until(world.add_job(request=asked), JobStatus.QUEUED)

    wait = told(world, second)

    assert wait is not None
    assert wait.missing == {"GPU": 1.0}
    assert wait.reason == "It is the next, and lacks 1 GPU."

    world.cluster.end(first.submission_id, SubmissionState.SUCCEEDED)
    world.report_success(first)
    world.running(second)


def test_jobs_on_processors_leave_nodes_with_devices_to_others() -> None:
    nodes = (empty_node("gaudi", cpus=2, HPU=1.0), empty_node("plain", cpus=8))
    found = planned(waiting("one"), waiting("two", device=Device.HPU), nodes=nodes)

    assert found.admitted == ("one", "two")


def test_what_is_kept_for_the_next_job_is_its_device_too() -> None:
    nodes = (empty_node("a", cpus=8, GPU=1.0),)
    found = planned(
        running("now", until=2000, device=Device.CUDA),
        waiting("next", device=Device.CUDA),
        waiting("plain"),
        nodes=nodes,
    )

    assert found.admitted == ("plain",)
    assert in_line(found) == ["next"]
