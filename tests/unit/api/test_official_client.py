"""The official `openai` client drives the API with nothing but a base URL."""

from __future__ import annotations

from typing import Any

import openai
import pytest


@pytest.fixture
def job(client: openai.OpenAI) -> Any:
    file = client.files.create(file=("train.jsonl", b"{}\n"), purpose="fine-tune")
    return client.fine_tuning.jobs.create(
        model="smollm2-135m-instruct",
        training_file=file.id,
        suffix="colours",
        seed=7,
        metadata={"team": "blue"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}},
    )


def test_a_file_is_created_listed_retrieved_read_and_deleted(client: openai.OpenAI) -> None:
    created = client.files.create(file=("a b.jsonl", b"line\n"), purpose="fine-tune")
    assert created.id.startswith("file-")
    assert (created.filename, created.bytes) == ("a b.jsonl", 5)
    assert (created.object, created.status, created.purpose) == ("file", "processed", "fine-tune")
    assert [file.id for file in client.files.list()] == [created.id]
    assert client.files.retrieve(created.id) == created
    assert client.files.content(created.id).read() == b"line\n"
    assert client.files.delete(created.id).deleted
    with pytest.raises(openai.NotFoundError, match=created.id):
        client.files.retrieve(created.id)


def test_files_are_paged_by_cursor(client: openai.OpenAI) -> None:
    ids = [client.files.create(file=("a", b"x"), purpose="fine-tune").id for _ in range(5)]
    assert [file.id for file in client.files.list(limit=2, order="asc")] == ids
    assert [file.id for file in client.files.list(limit=2)] == ids[::-1]


def test_a_created_job_shows_what_was_asked_for(client: openai.OpenAI, job: Any) -> None:
    assert job.id.startswith("ftjob-")
    assert job.status == "validating_files"
    assert job.seed == 7
    assert job.metadata == {"team": "blue"}
    assert job.hyperparameters.n_epochs == 3
    assert job.hyperparameters.batch_size == "auto"
    assert job.method.type == "supervised"
    assert job.method.supervised.hyperparameters.n_epochs == 3
    assert job.organization_id == "acme"
    assert client.fine_tuning.jobs.retrieve(job.id) == job
    assert client.fine_tuning.jobs.list().data == [job]


def test_a_finished_job_shows_what_became_of_it(
    client: openai.OpenAI, job: Any, world: Any
) -> None:
    world.run(job.id)
    world.finish(job.id)
    done = client.fine_tuning.jobs.retrieve(job.id)
    assert done.status == "succeeded"
    assert done.fine_tuned_model is not None
    assert done.trained_tokens == 1234
    assert done.finished_at is not None
    assert done.hyperparameters.learning_rate_multiplier == 2.0
    [result] = done.result_files
    assert client.files.content(result).read() == b"step\n"


def test_events_are_listed_newest_first_through_all_pages(
    client: openai.OpenAI, job: Any, world: Any
) -> None:
    world.run(job.id)
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=2))
    assert len(events) == 5
    assert events[-1].message.startswith("Created")
    assert events[0].type == "metrics"
    assert events[0].data["step"] == 10  # type: ignore[index]
    assert events[0].data["train_loss"] == 0.5  # type: ignore[index]


def test_checkpoints_carry_all_of_openais_metrics(
    client: openai.OpenAI, job: Any, world: Any
) -> None:
    world.run(job.id)
    newest, oldest = client.fine_tuning.jobs.checkpoints.list(job.id, limit=1)
    assert (newest.step_number, oldest.step_number) == (10, 5)
    assert newest.fine_tuned_model_checkpoint.endswith(":ckpt-step-10")
    assert newest.metrics.model_dump() == {
        "step": 10,
        "train_loss": 0.5,
        "train_mean_token_accuracy": 0.75,
        "valid_loss": 0.625,
        "valid_mean_token_accuracy": 0.7,
        "full_valid_loss": 0.625,
        "full_valid_mean_token_accuracy": 0.7,
    }


def test_a_job_is_cancelled_once(client: openai.OpenAI, job: Any) -> None:
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="already been cancelled") as refused:
        client.fine_tuning.jobs.cancel(job.id)
    assert refused.value.code == "job_already_ended"


def test_a_running_job_is_paused_and_resumed(client: openai.OpenAI, job: Any, world: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="still being checked") as refused:
        client.fine_tuning.jobs.pause(job.id)
    assert refused.value.code == "job_not_pausable"
    world.run(job.id)
    paused = client.fine_tuning.jobs.pause(job.id)
    assert str(paused.status) == "paused"
    assert paused.estimated_finish is None
    with pytest.raises(openai.ConflictError, match="unfinished"):
        client.files.delete(job.training_file)
    with pytest.raises(openai.BadRequestError, match="paused already"):
        client.fine_tuning.jobs.pause(job.id)
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    with pytest.raises(openai.BadRequestError, match="only a paused job") as refused:
        client.fine_tuning.jobs.resume(job.id)
    assert refused.value.code == "job_not_paused"


def test_an_ended_job_is_not_paused(client: openai.OpenAI, job: Any) -> None:
    client.fine_tuning.jobs.cancel(job.id)
    with pytest.raises(openai.BadRequestError, match="It has ended"):
        client.fine_tuning.jobs.pause(job.id)


def test_models_are_the_catalogue_and_what_was_tuned(
    client: openai.OpenAI, job: Any, world: Any
) -> None:
    world.run(job.id)
    tuned = world.finish(job.id).fine_tuned_model
    names = [model.id for model in client.models.list()]
    assert names == ["smollm2-135m-instruct", "org/tiny-llama", tuned]
    assert client.models.retrieve(tuned).owned_by == "acme"
    assert client.models.retrieve("org/tiny-llama").id == "org/tiny-llama"


def test_deleting_a_tuned_model_deletes_its_bytes_and_checkpoints(
    client: openai.OpenAI, job: Any, world: Any
) -> None:
    world.run(job.id)
    tuned = world.finish(job.id).fine_tuned_model
    assert client.models.delete(tuned).deleted
    assert world.artifacts.list(f"output/{job.id}") == []
    assert world.artifacts.list(f"runs/{job.id}/checkpoints") == []
    assert client.fine_tuning.jobs.checkpoints.list(job.id).data == []
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(tuned)


def test_a_base_model_is_not_deleted(client: openai.OpenAI) -> None:
    with pytest.raises(openai.PermissionDeniedError, match="operator"):
        client.models.delete("smollm2-135m-instruct")


def test_the_request_id_reaches_the_client(client: openai.OpenAI) -> None:
    assert client.models.list()._request_id.startswith("req_")  # type: ignore[union-attr]
