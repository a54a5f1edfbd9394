"""With `RAY_ADDRESS` the service uses a cluster that somebody else started, and leaves it alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import new_data
from e2e.service import Service, make_job, running, until
from tunesmith.cluster.head_process import Head, HeadFolder
from tunesmith.cluster.ray_jobs import RayJobs
from tunesmith.domain.errors import ClusterUnavailableError


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A cluster of somebody else's, as the variables that lead to it."""
    folder = HeadFolder(tmp_path / "theirs")
    head = folder.launch()
    try:
        jobs = RayJobs(head.address, python=sys.executable, token=folder.token())
        until(lambda: _up(jobs), 60)
        yield {
            "RAY_ADDRESS": head.address,
            "RAY_AUTH_TOKEN_PATH": str(tmp_path / "theirs" / "token"),
            "TUNESMITH_RAY_PYTHON": sys.executable,
        }
        assert folder.find() == Head(pid=head.pid, dashboard_port=head.dashboard_port)
    finally:
        folder.end()


def _up(jobs: RayJobs) -> bool:
    try:
        return bool(jobs.resources().nodes)
    except ClusterUnavailableError:
        return False


def test_jobs_run_there_and_go_on_while_the_service_is_down(
    tmp_path: Path, tiny_model: Path, cluster: dict[str, str]
) -> None:
    data = new_data(tmp_path, tiny_model)
    with running(data, cluster) as service:
        job = make_job(service)
        until(lambda: service.steps(job.id), 90)
        trainer = service.trainer(job.id)
        assert service.end() == 0
        assert trainer.is_running()
        assert not (data / "ray").exists()

        service.start()
        done = service.wait(job.id)

    assert done.status == "succeeded"
    assert (data / "runs" / job.id / "attempt").read_text() == "1"


def test_a_cluster_that_does_not_answer_makes_jobs_wait(tmp_path: Path, tiny_model: Path) -> None:
    nowhere = {"RAY_ADDRESS": "http://127.0.0.1:9", "RAY_AUTH_TOKEN_PATH": ""}
    with running(new_data(tmp_path, tiny_model), nowhere) as service:
        job = make_job(service)

        until(lambda: status(service, job.id) == "queued", 20)

        assert service.client.fine_tuning.jobs.cancel(job.id).status == "cancelled"


def status(service: Service, job_id: str) -> str:
    return service.client.fine_tuning.jobs.retrieve(job_id).status
