"""A cluster of several machines, of which some vanish, are cut off, or lack the data folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import new_data
from e2e.nodes import Machines, machines, possible
from e2e.service import STEPS, Service, make_job, running, until

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not possible(), reason="Network namespaces want root."),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with machines(tmp_path_factory.mktemp("cluster") / "machines") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, cluster: Machines
) -> Iterator[Service]:
    """A service with a controller that works on `cluster`."""
    data = new_data(tmp_path_factory.mktemp("service"), tiny_model)
    with running(data, cluster.environment) as service:
        yield service


def told(service: Service, job_id: str, words: str) -> list[str]:
    """Return the messages of a job that contain `words`, oldest first."""
    events = list(service.client.fine_tuning.jobs.list_events(job_id, limit=100))
    return [event.message for event in reversed(events) if words in event.message]


def test_two_workers_on_two_machines_go_on_when_one_vanishes_and_another_is_added(
    cluster: Machines, service: Service
) -> None:
    first, second = cluster.add(cpus=1), cluster.add(cpus=1)
    job = make_job(service, tuning={"workers": 2, "cpus": 1})
    until(lambda: len(service.steps(job.id)) >= 40, 300)
    (started,) = told(service, job.id, "Training started")

    cluster.take_away(second)
    (died,) = until(lambda: told(service, job.id, "died first"), 120)
    third = cluster.add(cpus=1)
    done = service.wait(job.id, seconds=300)

    assert {first.address, second.address} == set(re.findall(r"rank \d of (\S+)", started))
    assert re.match(rf"Rank \d of {second.address} .* died first: its node is gone\.", died)
    assert len(told(service, job.id, "A node of attempt 1 was lost. The job goes on")) == 1
    (again,) = told(service, job.id, "Training started (attempt 2)")
    assert {first.address, third.address} == set(re.findall(r"rank \d of (\S+)", again))
    assert done.status == "succeeded", done.error
    assert service.steps(job.id) == list(range(1, STEPS + 1))
    cluster.take_away(first)
    cluster.take_away(third)


def test_a_job_on_a_machine_that_is_cut_off_goes_on_elsewhere_and_nobody_else_writes(
    cluster: Machines, service: Service
) -> None:
    lost = cluster.add(cpus=1)
    job = make_job(service, epochs=50, tuning={"cpus": 1})
    until(lambda: len(service.steps(job.id)) >= 40, 120)

    cluster.cut_off(lost)
    other = cluster.add(cpus=1)
    done = service.wait(job.id, seconds=300)

    assert done.status == "succeeded", done.error
    assert len(told(service, job.id, "The node of attempt 1 was lost. The job goes on")) == 1
    assert service.steps(job.id) == list(range(1, 5 * STEPS + 1))
    assert not [one for one in lost.processes() if job.id in " ".join(one.cmdline())]
    cluster.take_away(other)


def test_a_machine_without_the_data_folder_is_named(cluster: Machines, service: Service) -> None:
    bare = cluster.add(cpus=1, without=service.data)
    job = make_job(service, tuning={"cpus": 1})

    failed = service.wait(job.id)

    assert failed.error is not None
    assert failed.error.code == "resources_unavailable"
    assert re.match(
        rf"Node \S+ \({bare.address}\) does not have the data folder {service.data}: let all "
        "nodes share it. The job was launched 4 times.",
        failed.error.message,
    )
    cluster.take_away(bare)
