"""A job makes a cluster that scales itself add the node that it needs, and the node goes again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from e2e.conftest import new_data
from e2e.scaling import scaling_ray
from e2e.service import Service, make_job, running, until


def test_a_node_is_added_for_a_job_and_goes_when_nothing_needs_it(
    tmp_path: Path, tiny_model: Path
) -> None:
    data = new_data(tmp_path, tiny_model)
    # Such a process would have the node stay for half a minute more.
    cold = {"TUNESMITH_WARM_PROCESSES": "false"}
    with (
        scaling_ray(tmp_path / "theirs", idle_seconds=5) as ray,
        running(data, ray.environment | cold) as service,
    ):
        job = make_job(service, epochs=1, tuning={"cpus": 3})
        until(lambda: "A node of 'big' is asked for." in reason(service, job.id), 30)

        until(lambda: ray.nodes() == 2, 60)
        until(lambda: ray.free() == 1, 60)

        assert service.wait(job.id, seconds=90).status == "succeeded"
        until(lambda: ray.nodes() == 1, 90)


def reason(service: Service, job_id: str) -> str:
    job: Any = service.client.fine_tuning.jobs.retrieve(job_id)
    return job.queue["reason"] if job.queue else ""
