"""A data folder is backed up while a job trains, and the job goes on from it elsewhere."""

from __future__ import annotations

import subprocess
from pathlib import Path

from e2e.service import COMMAND, STEPS, Service, make_job, running, until


def tunesmith(*words: str | Path) -> str:
    return subprocess.run(
        [COMMAND, *map(str, words)], check=True, capture_output=True, text=True
    ).stdout


def test_a_job_goes_on_from_a_backup_and_ends(own_service: Service, tmp_path: Path) -> None:
    service = own_service
    job = make_job(service)
    until(lambda: len(service.steps(job.id)) >= 40, 200)
    backup, elsewhere = tmp_path / "backup", tmp_path / "elsewhere"

    tunesmith("backup", backup, "--data", service.data)

    assert service.client.fine_tuning.jobs.retrieve(job.id).status == "running"
    service.kill_all(job.id)
    tunesmith("restore", backup, "--data", elsewhere)
    with running(elsewhere) as restored:
        done = restored.wait(job.id)
        told = [each.message for each in restored.client.fine_tuning.jobs.list_events(job.id)]
        content = restored.client.files.content(job.training_file).read()

        assert done.status == "succeeded", done.error
        assert restored.steps(job.id) == list(range(1, STEPS + 1))
        assert any("goes on from its last checkpoint" in message for message in told)
        assert b"Say 59" in content
    claimed = (elsewhere / "runs" / job.id / "attempt").read_text()
    assert int(claimed) == 2
    assert (elsewhere / "output" / job.id / "adapter_model.safetensors").exists()
