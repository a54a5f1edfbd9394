"""The official Python client, with nothing but its base URL: every method, on a live server."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai._resource import SyncAPIResource
from openai.types import FileObject
from openai.types.fine_tuning import FineTuningJob

from e2e.receiver import Receiver, receiving
from e2e.rows import sums
from e2e.service import Service, until

CONTENT = sums(40)
RESOURCES = ("files", "uploads", "fine_tuning", "models", "webhooks")


def resource_classes(resource: object) -> Iterator[type]:
    """Yield the classes of `resource`, and those of all that it has below it."""
    for cls in type(resource).__mro__:
        if cls is SyncAPIResource:
            return
        yield cls
        for name, member in vars(cls).items():
            if isinstance(member, functools.cached_property) and not name.startswith("with_"):
                yield from resource_classes(getattr(resource, name))


@pytest.fixture
def methods(service: Service, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each public method of the client's resources was called, from now on."""
    calls: dict[str, int] = {}

    def noted(method: Callable[..., Any]) -> Callable[..., Any]:
        name = method.__qualname__
        calls[name] = 0

        @functools.wraps(method)
        def call(*args: Any, **options: Any) -> Any:
            calls[name] += 1
            return method(*args, **options)

        return call

    for root in RESOURCES:
        for cls in resource_classes(getattr(service.client, root)):
            for name, member in list(vars(cls).items()):
                if inspect.isfunction(member) and not name.startswith("_"):
                    monkeypatch.setattr(cls, name, noted(member))
    return calls


def test_every_method_of_the_python_client_works(
    service: Service, methods: dict[str, int], tmp_path: Path
) -> None:
    client = service.client
    with receiving() as receiver:
        endpoint, secret = add_endpoint(client, receiver)
        file = use_files(client)
        use_uploads(client, tmp_path)
        job = use_jobs(service, file)
        checkpoint = use_checkpoints(client, job)
        use_models(client, job, checkpoint)
        use_deliveries(client, receiver, job=job, secret=secret)
        change_endpoint(client, receiver, endpoint=endpoint)
    refuse_graders(client)
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)

    assert len(methods) > 35
    assert [name for name, calls in methods.items() if calls == 0] == []


def use_files(client: OpenAI) -> FileObject:
    file = client.files.create(
        file=("python.jsonl", CONTENT),
        purpose="fine-tune",
        expires_after={"anchor": "created_at", "seconds": 7200},
    )
    assert (file.bytes, file.expires_at) == (len(CONTENT), file.created_at + 7200)
    assert client.files.retrieve(file.id) == file
    assert client.files.wait_for_processing(file.id).status == "processed"
    assert client.files.content(file.id).read() == CONTENT
    with pytest.deprecated_call():
        assert client.files.retrieve_content(file.id) == CONTENT.decode()
    other = client.files.create(file=("other.jsonl", CONTENT), purpose="fine-tune")
    listed = [each.id for each in client.files.list(purpose="fine-tune", order="asc", limit=1)]
    assert listed.index(file.id) < listed.index(other.id)
    assert len(set(listed)) == len(listed)
    return file


def use_uploads(client: OpenAI, folder: Path) -> None:
    half = len(CONTENT) // 2
    md5 = hashlib.md5(CONTENT).hexdigest()
    upload = client.uploads.create(
        filename="parts.jsonl", purpose="fine-tune", bytes=len(CONTENT), mime_type="text/jsonl"
    )
    assert upload.status == "pending"
    later, earlier = (
        client.uploads.parts.create(upload.id, data=data)
        for data in (CONTENT[half:], CONTENT[:half])
    )
    with pytest.raises(openai.BadRequestError, match="MD5"):
        client.uploads.complete(upload.id, part_ids=[later.id, earlier.id], md5=md5)
    done = client.uploads.complete(upload.id, part_ids=[earlier.id, later.id], md5=md5)
    assert done.status == "completed"
    assert done.file is not None
    assert client.files.content(done.file.id).read() == CONTENT

    path = folder / "chunked.jsonl"
    path.write_bytes(CONTENT)
    chunked = client.uploads.upload_file_chunked(
        file=path, mime_type="text/jsonl", purpose="fine-tune", part_size=1000, md5=md5
    )
    assert chunked.file is not None
    assert chunked.file.filename == "chunked.jsonl"
    assert client.files.content(chunked.file.id).read() == CONTENT

    given_up = client.uploads.create(
        filename="x.jsonl", purpose="fine-tune", bytes=5, mime_type="text/jsonl"
    )
    assert client.uploads.cancel(given_up.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="cancelled"):
        client.uploads.parts.create(given_up.id, data=b"12345")


def create(client: OpenAI, file: FileObject, *, epochs: int) -> FineTuningJob:
    return client.fine_tuning.jobs.create(
        model="tiny",
        training_file=file.id,
        seed=7,
        suffix="python",
        metadata={"from": "python"},
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": epochs, "batch_size": 4}},
        },
    )


def use_jobs(service: Service, file: FileObject) -> FineTuningJob:
    jobs = service.client.fine_tuning.jobs
    long = create(service.client, file, epochs=50)
    until(lambda: service.steps(long.id), 120)
    assert str(jobs.pause(long.id).status) == "paused"
    assert jobs.resume(long.id).status == "queued"
    assert jobs.cancel(long.id).status == "cancelled"

    job = create(service.client, file, epochs=1)
    mine = [each.id for each in jobs.list(limit=1, metadata={"from": "python"})]
    assert mine == [job.id, long.id]
    done = service.wait(job.id)
    assert (done.status, done.error) == ("succeeded", None)
    assert jobs.retrieve(job.id) == done
    events = list(jobs.list_events(job.id, limit=5))
    assert events[-1].message == f"Created fine-tuning job: {job.id}"
    assert len({event.id for event in events}) == len(events)
    return done


def use_checkpoints(client: OpenAI, job: FineTuningJob) -> str:
    (checkpoint,) = client.fine_tuning.jobs.checkpoints.list(job.id, limit=1)
    name = checkpoint.fine_tuned_model_checkpoint
    assert name == f"{job.fine_tuned_model}:ckpt-step-10"

    permissions = client.fine_tuning.checkpoints.permissions
    given = permissions.create(name, project_ids=["green", "blue"]).data
    assert [each.project_id for each in given] == ["green", "blue"]
    listed = list(permissions.list(name, limit=1, order="ascending"))
    assert [each.id for each in listed] == [each.id for each in given]
    with pytest.deprecated_call():
        assert len(permissions.retrieve(name, project_id="blue").data) == 1
    assert permissions.delete(given[0].id, fine_tuned_model_checkpoint=name).deleted
    assert [each.project_id for each in permissions.list(name)] == ["blue"]
    return name


def use_models(client: OpenAI, job: FineTuningJob, checkpoint: str) -> None:
    tuned = str(job.fine_tuned_model)
    assert {"tiny", tuned} <= {model.id for model in client.models.list()}
    for name in ("tiny", tuned, checkpoint):
        assert client.models.retrieve(name).id == name
    assert client.models.delete(tuned).deleted
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(checkpoint)
    with pytest.raises(openai.PermissionDeniedError):
        client.models.delete("tiny")


def add_endpoint(client: OpenAI, receiver: Receiver) -> tuple[str, str]:
    """Return the id of an endpoint that leads to `receiver`, and its secret."""
    made = client.webhooks.create(
        name="ci", url=receiver.url, event_types=["fine_tuning.job.succeeded"]
    )
    assert set(made.event_types) < set(client.webhooks.event_types.list().data)
    assert made.signing_secret.startswith("whsec_")
    kept = client.webhooks.retrieve(made.id)
    assert kept.url == receiver.url
    assert not hasattr(kept, "signing_secret")
    assert made.id in [each.id for each in client.webhooks.list(limit=1)]
    return made.id, made.signing_secret


def use_deliveries(client: OpenAI, receiver: Receiver, *, job: FineTuningJob, secret: str) -> None:
    body, headers = receiver.next()
    client.webhooks.verify_signature(body, headers, secret=secret)
    event = client.webhooks.unwrap(body, headers, secret=secret)
    assert event.type == "fine_tuning.job.succeeded"
    assert event.data.id == job.id
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(body + b" ", headers, secret=secret)


def change_endpoint(client: OpenAI, receiver: Receiver, *, endpoint: str) -> None:
    rotated = client.webhooks.rotate_secret(endpoint)
    assert client.webhooks.test(endpoint, event_type="fine_tuning.job.failed").status_code == 204
    body, headers = receiver.next()
    sample = client.webhooks.unwrap(body, headers, secret=rotated.signing_secret)
    assert sample.type == "fine_tuning.job.failed"
    assert client.webhooks.update(endpoint, name="cd").name == "cd"
    shown = client.webhooks.retrieve(endpoint)
    assert shown.signing_secret_hint == f"whsec_…{rotated.signing_secret[-4:]}"
    assert client.webhooks.delete(endpoint).deleted
    with pytest.raises(openai.NotFoundError):
        client.webhooks.retrieve(endpoint)


def refuse_graders(client: OpenAI) -> None:
    """Graders belong to a method that there is not; the refusal names those that there are."""
    graders = client.fine_tuning.alpha.graders
    grader: Any = {
        "type": "string_check",
        "name": "same",
        "input": "{{sample.output_text}}",
        "reference": "x",
        "operation": "eq",
    }
    with pytest.raises(openai.NotFoundError, match="'supervised' and 'dpo'"):
        graders.run(grader=grader, model_sample="x")
    with pytest.raises(openai.NotFoundError, match="'supervised' and 'dpo'"):
        graders.validate(grader=grader)


def test_the_asynchronous_client_works_as_well(service: Service) -> None:
    asyncio.run(use_asynchronously(service))


async def use_asynchronously(service: Service) -> None:
    async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key="unused") as client:
        contents = [sums(count) for count in range(10, 18)]
        files = await asyncio.gather(
            *(
                client.files.create(file=(f"{n}.jsonl", content), purpose="fine-tune")
                for n, content in enumerate(contents)
            )
        )
        for file, content in zip(files, contents, strict=True):
            assert (await client.files.content(file.id)).read() == content
        mine = {file.id for file in files}
        assert mine <= {each.id async for each in client.files.list(limit=3)}

        whole = await client.uploads.upload_file_chunked(
            file=CONTENT,
            filename="async.jsonl",
            bytes=len(CONTENT),
            mime_type="text/jsonl",
            purpose="fine-tune",
            part_size=700,
        )
        assert whole.file is not None
        job = await client.fine_tuning.jobs.create(model="tiny", training_file=whole.file.id)
        assert (await client.fine_tuning.jobs.cancel(job.id)).status == "cancelled"
        seen = [each.message async for each in client.fine_tuning.jobs.list_events(job.id, limit=1)]
        assert seen[-1] == f"Created fine-tuning job: {job.id}"
        assert "tiny" in [model.id async for model in client.models.list()]
