"""A run that a warm process trains ends as one that trains itself, bit for bit."""

from __future__ import annotations

from pathlib import Path

import psutil

from e2e.conftest import new_data
from e2e.service import Service, make_job, running, until


def adapter(service: Service, job_id: str) -> bytes:
    return (service.data / "output" / job_id / "adapter_model.safetensors").read_bytes()


def is_warm(service: Service) -> bool:
    """Tell whether a process of the service's own Ray waits for runs."""
    return any(map(waits, service.ray_processes()))


def waits(process: psutil.Process) -> bool:
    """Tell whether `process` is a warm one that listens."""
    try:
        if "tunesmith.training.warm" not in " ".join(process.cmdline()):
            return False
        return any(str(each.laddr).endswith(".sock") for each in process.net_connections("unix"))
    except psutil.Error:
        return False


def test_warm_and_cold_runs_make_the_same_adapter(
    service: Service, tmp_path: Path, tiny_model: Path
) -> None:
    until(lambda: is_warm(service), 180)
    job = make_job(service, epochs=1)
    # The entrypoint, and the trainer that was forked for it.
    until(lambda: len(service.trainers(job.id)) == 2, 120)
    assert service.wait(job.id).status == "succeeded"

    without = {"TUNESMITH_WARM_PROCESSES": "false"}
    with running(new_data(tmp_path, tiny_model), environment=without) as cold:
        alone = make_job(cold, epochs=1)
        assert cold.wait(alone.id).status == "succeeded"
        assert adapter(cold, alone.id) == adapter(service, job.id)
