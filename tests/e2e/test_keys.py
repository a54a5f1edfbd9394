"""Keys, made by the command while the service runs: who is admitted, and what each one sees."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import openai
import pytest
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

from e2e.conftest import new_data
from e2e.rows import sums
from e2e.service import COMMAND, Service, running, until

CONTENT = sums(40)


def command(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `tunesmith` with `arguments` on the folder `data`."""
    return subprocess.run(
        [COMMAND, *arguments, "--data", str(data)],
        env=os.environ | {"RAY_ADDRESS": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def make_key(service: Service, project: str, *, scope: str = "write") -> tuple[str, str]:
    """Return the id of a fresh key and the key itself."""
    done = command(
        service.data, "keys", "create", "--project", project, "--name", scope, "--scope", scope
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("sk-ts-")
    return done.stderr.split()[0], done.stdout.strip()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Service]:
    """A service on loopback for which keys are made once it runs; it uses that of project blue."""
    data = new_data(tmp_path_factory.mktemp("guarded"), tiny_model)
    with running(data) as service:
        assert [model.id for model in service.client.models.list()], (
            "it is open until a key is made"
        )
        _, service.api_key = make_key(service, "blue")
        until(lambda: refused(service, "unused") == 401, 5)
        yield service


def client_of(service: Service, key: str) -> OpenAI:
    return OpenAI(base_url=f"{service.url}/v1", api_key=key, max_retries=0)


def refused(service: Service, key: str) -> int | None:
    """Return the status with which `key` is refused; `None` if it is taken."""
    answer = httpx.get(f"{service.url}/v1/models", headers={"Authorization": f"Bearer {key}"})
    return None if answer.is_success else answer.status_code


def make_job(client: OpenAI, *, epochs: int) -> FineTuningJob:
    file = client.files.create(file=("sums.jsonl", CONTENT), purpose="fine-tune")
    return client.fine_tuning.jobs.create(
        model="tiny",
        training_file=file.id,
        hyperparameters={"n_epochs": epochs, "batch_size": 2},
    )


def test_without_a_key_nothing_is_answered_but_that_one_is_needed(guarded: Service) -> None:
    routes = ("/v1/models", "/v1/files", "/v1/fine_tuning/jobs")
    for route in routes:
        answer = httpx.get(f"{guarded.url}{route}")

        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "invalid_api_key"
    with pytest.raises(openai.AuthenticationError):
        client_of(guarded, "sk-ts-" + "x" * 40).models.list()
    assert httpx.get(f"{guarded.url}/health").status_code == 200


def test_a_key_that_reads_cannot_write(guarded: Service) -> None:
    _, key = make_key(guarded, "blue", scope="read")
    until(lambda: refused(guarded, key) is None, 5)
    reader = client_of(guarded, key)

    assert "tiny" in [model.id for model in reader.models.list()]
    with pytest.raises(openai.PermissionDeniedError, match="write"):
        reader.files.create(file=("a.jsonl", CONTENT), purpose="fine-tune")


def test_a_running_job_does_not_exist_for_another_project(guarded: Service) -> None:
    blue = guarded.client
    _, key = make_key(guarded, "green", scope="admin")
    until(lambda: refused(guarded, key) is None, 5)
    green = client_of(guarded, key)
    job = make_job(blue, epochs=50)
    checkpoint = until(lambda: blue.fine_tuning.jobs.checkpoints.list(job.id).data, 120)[0]
    name = checkpoint.fine_tuned_model_checkpoint

    unseen: list[Callable[[], object]] = [
        lambda: green.fine_tuning.jobs.retrieve(job.id),
        lambda: green.fine_tuning.jobs.list_events(job.id),
        lambda: green.fine_tuning.jobs.checkpoints.list(job.id),
        lambda: green.fine_tuning.jobs.pause(job.id),
        lambda: green.fine_tuning.jobs.cancel(job.id),
        lambda: green.fine_tuning.checkpoints.permissions.create(name, project_ids=["green"]),
        lambda: green.models.retrieve(name),
        lambda: green.models.delete(name),
        lambda: green.files.content(job.training_file),
        lambda: green.files.delete(job.training_file),
        lambda: green.fine_tuning.jobs.create(model="tiny", training_file=job.training_file),
    ]
    for look in unseen:
        with pytest.raises(openai.NotFoundError):
            look()
    assert green.fine_tuning.jobs.list().data == []
    assert green.files.list().data == []
    assert blue.models.retrieve(name).id == name
    assert blue.fine_tuning.jobs.cancel(job.id).status == "cancelled"


def test_a_revoked_key_is_refused_within_two_seconds_and_its_jobs_go_on(guarded: Service) -> None:
    key_id, key = make_key(guarded, "blue")
    until(lambda: refused(guarded, key) is None, 5)
    job = make_job(client_of(guarded, key), epochs=1)

    done = command(guarded.data, "keys", "revoke", key_id)

    assert done.returncode == 0, done.stderr
    until(lambda: refused(guarded, key) == 401, 2)
    with pytest.raises(openai.AuthenticationError, match="revoked"):
        client_of(guarded, key).fine_tuning.jobs.retrieve(job.id)
    assert guarded.wait(job.id).status == "succeeded"


def test_after_a_kill_of_everything_keys_parts_and_creations_are_as_before(
    guarded: Service,
) -> None:
    half = len(CONTENT) // 2
    client = guarded.client
    upload = client.uploads.create(
        filename="half.jsonl", purpose="fine-tune", bytes=len(CONTENT), mime_type="text/jsonl"
    )
    later = client.uploads.parts.create(upload.id, data=CONTENT[half:])
    file = client.files.create(file=("sums.jsonl", CONTENT), purpose="fine-tune")
    job = create_once(client, file.id)

    guarded.kill_all(job.id)
    guarded.start()

    assert refused(guarded, "unused") == 401
    client = guarded.client
    assert create_once(client, file.id).id == job.id
    earlier = client.uploads.parts.create(upload.id, data=CONTENT[:half])
    whole = client.uploads.complete(upload.id, part_ids=[earlier.id, later.id])
    assert whole.file is not None
    assert client.files.content(whole.file.id).read() == CONTENT
    assert guarded.wait(job.id).status == "succeeded"


def create_once(client: OpenAI, file_id: str) -> FineTuningJob:
    return client.fine_tuning.jobs.create(
        model="tiny",
        training_file=file_id,
        hyperparameters={"n_epochs": 1},
        extra_headers={"Idempotency-Key": "the-one"},
    )


def test_it_does_not_serve_others_without_a_key(tmp_path: Path) -> None:
    done = command(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0")

    assert done.returncode == 1
    assert done.stdout == ""
    assert "0.0.0.0 is not loopback" in done.stderr
    assert "tunesmith keys create" in done.stderr
    assert "--allow-open" in done.stderr


def test_it_serves_others_without_a_key_where_that_is_said_in_plain_words(tmp_path: Path) -> None:
    options = ("--host", "0.0.0.0", "--allow-open")
    with running(tmp_path / "data", options=options) as service:
        assert service.url.startswith("http://0.0.0.0:")
        port = httpx.URL(service.url).port

        listed = httpx.get(f"http://127.0.0.1:{port}/v1/models")

        assert listed.status_code == 200
