"""A service whose artifacts are in a bucket trains and answers, and its folder stays bare."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import new_data
from e2e.service import Service, make_job, running
from s3_server import BUCKET, KEYS, S3Server, s3_server


@pytest.fixture
def server() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def service(server: S3Server, tmp_path: Path, tiny_model: Path) -> Iterator[Service]:
    environment = {**server.environment, "TUNESMITH_ARTIFACTS_URL": f"s3://{BUCKET}/some/prefix"}
    with running(new_data(tmp_path, tiny_model), environment) as service:
        yield service


def test_a_job_learns_from_and_writes_to_the_bucket_alone(
    service: Service, server: S3Server
) -> None:
    job = service.wait(make_job(service, epochs=2).id)

    assert job.status == "succeeded", job.error
    client = service.client
    [*checkpoints] = client.fine_tuning.jobs.checkpoints.list(job.id)
    assert checkpoints
    assert client.files.content(job.result_files[0]).read().startswith(b"step,")
    assert service.steps(job.id) == list(range(1, 61))
    names = {name.removeprefix("some/prefix/") for name in server.names("some/prefix/")}
    assert f"output/{job.id}/adapter_model.safetensors" in names
    assert f"runs/{job.id}/events" in names
    lists = [name for name in names if name.startswith(f".folders/runs/{job.id}/checkpoints/")]
    assert len(lists) == 2
    for answered in (job.fine_tuned_model, checkpoints[0].fine_tuned_model_checkpoint):
        assert answered is not None
        said = client.with_options(timeout=180).chat.completions.create(
            model=answered, messages=[{"role": "user", "content": "Say 7"}], max_tokens=4
        )
        assert said.usage is not None
        assert said.usage.completion_tokens > 0

    held = {path.name for path in service.data.iterdir()}
    assert not held & {"files", "uploads", "runs", "output", "models", "tokenizers", ".aside"}
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in service.log.read_text()
