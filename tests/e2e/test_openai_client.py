"""The official `openai` client with nothing but `base_url`, on a real model and a real Ray."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

from e2e.rows import sums
from e2e.service import Service, until


@pytest.fixture(scope="module")
def job(service: Service) -> FineTuningJob:
    """A short job on SmolLM2, from upload to success."""
    client = service.client
    training = client.files.create(file=("sums.jsonl", sums(24)), purpose="fine-tune")
    held_out = client.files.create(file=("held-out.jsonl", sums(5)), purpose="fine-tune")
    created = client.fine_tuning.jobs.create(
        model="smollm2-135m-instruct",
        training_file=training.id,
        validation_file=held_out.id,
        suffix="sums",
        seed=11,
        metadata={"team": "maths"},
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 8}},
        },
    )
    assert created.id.startswith("ftjob-")
    assert created.status == "validating_files"
    return service.wait(created.id)


def test_the_job_succeeds_and_tells_all_about_itself(service: Service, job: FineTuningJob) -> None:
    assert job.status == "succeeded", job.error
    assert job.fine_tuned_model == f"ft:smollm2-135m-instruct:tunesmith:sums:{job.id[-8:]}"
    assert job.seed == 11
    assert job.metadata == {"team": "maths"}
    assert job.finished_at is not None
    assert job.finished_at >= job.created_at
    assert job.trained_tokens is not None
    assert 24 * 20 < job.trained_tokens < 24 * 80
    assert job.method is not None
    assert job.method.supervised is not None
    hyperparameters = job.method.supervised.hyperparameters
    assert hyperparameters is not None
    assert (hyperparameters.n_epochs, hyperparameters.batch_size) == (1, 8)


def test_every_change_of_status_and_every_step_has_its_event(
    service: Service, job: FineTuningJob
) -> None:
    events = list(service.client.fine_tuning.jobs.list_events(job.id))

    messages = [event.message for event in reversed(events)]
    expected = [
        f"Created fine-tuning job: {job.id}",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
        f"New fine-tuned model created: {job.fine_tuned_model}",
        "The job has successfully completed",
    ]
    assert [message for message in messages if message in expected] == expected
    assert service.steps(job.id) == [1, 2, 3]
    last = next(event.data for event in events if event.type == "metrics")
    assert isinstance(last, dict)
    assert last["total_steps"] == 3
    assert 0 < last["valid_loss"] < 20
    assert last["tokens_per_second"] > 0


def test_the_events_are_paged_by_cursor_newest_first(service: Service, job: FineTuningJob) -> None:
    jobs = service.client.fine_tuning.jobs
    all_ids = [event.id for event in jobs.list_events(job.id, limit=100).data]

    paged = [event.id for event in jobs.list_events(job.id, limit=2)]

    assert paged == all_ids
    assert len(set(paged)) == len(paged)


def test_the_result_file_is_a_table_with_openais_columns_first(
    service: Service, job: FineTuningJob
) -> None:
    content = service.client.files.content(job.result_files[0]).text

    table = list(csv.DictReader(io.StringIO(content)))
    assert content.startswith("step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy")
    assert [row["step"] for row in table] == ["1", "2", "3"]
    assert all(float(row["train_loss"]) > 0 for row in table)
    assert float(table[-1]["valid_loss"]) > 0


def test_the_checkpoint_at_the_end_is_listed_with_its_metrics(
    service: Service, job: FineTuningJob
) -> None:
    (checkpoint,) = service.client.fine_tuning.jobs.checkpoints.list(job.id).data

    assert checkpoint.step_number == 3
    assert checkpoint.fine_tuned_model_checkpoint == f"{job.fine_tuned_model}:ckpt-step-3"
    assert checkpoint.fine_tuning_job_id == job.id
    assert checkpoint.metrics.valid_loss is not None
    assert (service.data / "output" / job.id / "checkpoint-3" / "adapter_config.json").is_file()


def test_the_adapter_lies_where_it_is_promised(service: Service, job: FineTuningJob) -> None:
    names = {path.name for path in (service.data / "output" / job.id).iterdir()}

    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= names


def test_the_tuned_model_is_listed_beside_the_base_models(
    service: Service, job: FineTuningJob
) -> None:
    client = service.client
    assert job.fine_tuned_model is not None

    listed = {model.id: model for model in client.models.list()}

    assert {"smollm2-135m-instruct", "tiny", job.fine_tuned_model} <= set(listed)
    assert client.models.retrieve(job.fine_tuned_model) == listed[job.fine_tuned_model]


def test_the_job_is_listed_and_its_files_can_be_read_back(
    service: Service, job: FineTuningJob
) -> None:
    client = service.client

    assert job.id in [each.id for each in client.fine_tuning.jobs.list()]
    assert client.files.retrieve(job.training_file).filename == "sums.jsonl"
    assert client.files.content(job.training_file).content == sums(24)
    assert job.training_file in [file.id for file in client.files.list(purpose="fine-tune")]


def test_the_runs_log_is_kept_as_a_file(service: Service, job: FineTuningJob) -> None:
    log = (service.data / "runs" / job.id / "log").read_text()

    assert "step 3" in log.lower() or "3/3" in log or "3 of 3" in log.lower()


def test_a_job_is_cancelled_while_it_trains_and_its_checkpoint_stays(service: Service) -> None:
    client = service.client
    training = client.files.create(file=("sums.jsonl", sums(24)), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="tiny",
        training_file=training.id,
        hyperparameters={"n_epochs": 50, "batch_size": 1},
    )
    trainer = service.trainer(job.id)

    def has_checkpoint() -> bool:
        return bool(client.fine_tuning.jobs.checkpoints.list(job.id).data)

    until(has_checkpoint, 60)
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    until(lambda: not trainer.is_running(), 5)

    assert client.fine_tuning.jobs.retrieve(job.id).status == "cancelled"
    kept = client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert kept
    name = f"checkpoint-{kept[0].step_number}"
    assert (service.data / "output" / job.id / name / "adapter_model.safetensors").is_file()
    with pytest.raises(openai.BadRequestError, match="already"):
        client.fine_tuning.jobs.cancel(job.id)


def test_files_and_tuned_models_are_deleted(service: Service, job: FineTuningJob) -> None:
    client = service.client
    file = client.files.create(file=("gone.jsonl", sums(10)), purpose="fine-tune")
    assert job.fine_tuned_model is not None

    assert client.files.delete(file.id).deleted
    assert client.models.delete(job.fine_tuned_model).deleted

    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(job.fine_tuned_model)
    assert not Path(service.data / "output" / job.id).exists()


def test_a_file_that_a_job_still_needs_is_not_deleted(service: Service) -> None:
    client = service.client
    file = client.files.create(file=("used.jsonl", sums(24)), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="tiny", training_file=file.id, hyperparameters={"n_epochs": 50, "batch_size": 1}
    )

    with pytest.raises(openai.ConflictError, match=job.id):
        client.files.delete(file.id)

    client.fine_tuning.jobs.cancel(job.id)
    assert client.files.delete(file.id).deleted


def test_a_bad_training_file_fails_the_job_with_the_line(service: Service) -> None:
    client = service.client
    content = sums(12) + b'{"messages": []}\n'
    file = client.files.create(file=("bad.jsonl", content), purpose="fine-tune")
    created = client.fine_tuning.jobs.create(model="tiny", training_file=file.id)

    job = service.wait(created.id)

    assert job.status == "failed"
    assert job.error is not None
    assert (job.error.code, job.error.param) == ("invalid_training_file", "training_file")
    assert "ine 13" in job.error.message
    newest = client.fine_tuning.jobs.list_events(job.id, limit=1).data[0]
    assert (newest.level, newest.message) == ("error", job.error.message)


def test_an_unknown_model_is_refused_with_the_known_ones(service: Service) -> None:
    client = service.client
    file = client.files.create(file=("a.jsonl", sums(10)), purpose="fine-tune")

    with pytest.raises(openai.NotFoundError, match=r"smollm2-135m-instruct.*tiny") as refused:
        client.fine_tuning.jobs.create(model="gpt-9", training_file=file.id)

    assert refused.value.param == "model"
