"""A job that starts from a tuned model or a checkpoint, and what it needs stays for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest
from starlette.testclient import TestClient

from tunesmith.domain.jobs import JobChange
from tunesmith.domain.models import WholeModel

JOBS = "/v1/fine_tuning/jobs"
Create = Callable[..., Any]


@pytest.fixture
def create(client: openai.OpenAI) -> Create:
    file = client.files.create(file=("train.jsonl", b"{}\n"), purpose="fine-tune")

    def send(model: str = "smollm2-135m-instruct", **keys: Any) -> Any:
        return client.fine_tuning.jobs.create(model=model, training_file=file.id, **keys)

    return send


@pytest.fixture
def tuned(create: Create, world: Any) -> Any:
    """Return a job that has succeeded, with checkpoints at the steps 5 and 10."""
    job = create()
    world.run(job.id)
    return world.finish(job.id)


def ended(world: Any, job_id: str) -> None:
    """Cancel the job and let its run be gone."""
    job = world.store.cancel_job(job_id, now=1)
    world.store.change_job(job, JobChange(submission_open=False))


@pytest.mark.parametrize("end", ["", ":ckpt-step-5"])
def test_a_job_goes_on_from_a_tuned_model_or_checkpoint_with_its_adapters_shape(
    create: Create, world: Any, tuned: Any, end: str
) -> None:
    name = f"{tuned.fine_tuned_model}{end}"
    job = create(model=name)
    assert job.model == name
    assert job.tuning["adapter"] == {
        "kind": "lora",
        "rank": 8,
        "alpha": 16.0,
        "dropout": 0.1,
        "targets": ["q_proj", "v_proj"],
        "also_train": [],
    }
    start = world.store.job(job.id).start_from
    folder = "/checkpoint-5" if end else ""
    assert (start.name, start.key) == (name, f"output/{tuned.id}{folder}")
    assert start.base == world.store.job(job.id).base == "smollm2-135m-instruct"


FULL = {"tuning": {"adapter": {"kind": "full"}}}


def made_whole(create: Create, world: Any, **keys: Any) -> str:
    """Return the name of a model all of whose weights were tuned."""
    job = create(extra_body={"tuning": FULL["tuning"] | keys})
    world.run(job.id)
    world.artifacts.put(f"output/{job.id}/config.json", b"{}")
    return str(world.finish(job.id).fine_tuned_model)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_job_goes_on_from_a_whole_model_with_a_new_adapter_or_with_all_its_weights(
    create: Create, world: Any, kind: str
) -> None:
    name = made_whole(create, world)
    job = create(model=name, extra_body={"tuning": {"adapter": {"kind": kind}}})
    assert (job.model, job.tuning["adapter"]["kind"]) == (name, kind)
    start = world.store.job(job.id).start_from
    key = f"output/{world.store.tuned_model(name).job_id}"
    assert (start.key, start.base) == (None, "smollm2-135m-instruct")
    assert start.beneath == WholeModel(name=name, key=key)


def test_an_adapter_on_a_whole_model_stays_on_it(create: Create, world: Any) -> None:
    name = made_whole(create, world)
    second = create(model=name)
    world.run(second.id)
    third = create(model=world.finish(second.id).fine_tuned_model)
    start = world.store.job(third.id).start_from
    assert (start.key, start.beneath.name) == (f"output/{second.id}", name)


def test_the_weights_that_an_adapter_needs_are_not_deleted(
    create: Create, client: openai.OpenAI, world: Any
) -> None:
    name = made_whole(create, world)
    second = create(model=name)
    world.run(second.id)
    adapter = world.finish(second.id).fine_tuned_model
    with pytest.raises(openai.ConflictError, match=second.id) as refused:
        client.models.delete(name)
    assert refused.value.code == "model_in_use"
    assert client.models.delete(adapter).deleted
    assert client.models.delete(name).deleted


def test_a_whole_model_that_makes_vectors_does_not_learn_to_answer(
    create: Create, world: Any
) -> None:
    vectors = made_whole(create, world, objective="embedding")
    with pytest.raises(openai.BadRequestError, match="another kind of model") as refused:
        create(model=vectors)
    assert refused.value.param == "model"
    scores = create(model=vectors, extra_body={"tuning": {"objective": "rerank"}})
    assert scores.model == vectors


def test_an_adapter_goes_on_with_the_kind_of_model_that_it_was_made_for(
    create: Create, tuned: Any
) -> None:
    with pytest.raises(openai.BadRequestError, match="tuned by 'supervised'") as refused:
        create(model=tuned.fine_tuned_model, extra_body={"tuning": {"objective": "embedding"}})
    assert refused.value.param == "model"
    texts = create(
        model=tuned.fine_tuned_model, extra_body={"tuning": {"objective": "pretraining"}}
    )
    assert texts.model == tuned.fine_tuned_model


def test_the_next_generation_still_knows_the_base_model(
    create: Create, world: Any, tuned: Any
) -> None:
    second = create(model=tuned.fine_tuned_model)
    world.run(second.id)
    made = world.finish(second.id).fine_tuned_model
    third = create(model=f"{made}:ckpt-step-10")
    assert world.store.job(third.id).start_from.base == "smollm2-135m-instruct"


@pytest.mark.parametrize(
    ("key", "value"),
    [("rank", 16), ("alpha", 1), ("kind", "dora"), ("targets", ["q_proj"])],
)
def test_another_shape_than_the_sources_is_refused_by_name(
    create: Create, tuned: Any, key: str, value: object
) -> None:
    with pytest.raises(openai.BadRequestError, match="starts from has") as refused:
        create(model=tuned.fine_tuned_model, extra_body={"tuning": {"adapter": {key: value}}})
    assert refused.value.param == f"tuning.adapter.{key}"


def test_the_same_shape_may_be_spelt_out_and_dropout_is_free(create: Create, tuned: Any) -> None:
    same = {"rank": 8, "alpha": 16, "targets": ["v_proj", "q_proj"], "dropout": 0}
    job = create(model=tuned.fine_tuned_model, extra_body={"tuning": {"adapter": same}})
    assert job.tuning["adapter"]["dropout"] == 0


def test_what_was_trained_beside_the_sources_adapter_is_trained_on(
    create: Create, world: Any
) -> None:
    beside = {"tuning": {"adapter": {"also_train": ["head", "embeddings"]}}}
    first = create(extra_body=beside)
    world.run(first.id)
    model = world.finish(first.id).fine_tuned_model

    for tuning in ({}, beside):
        job = create(model=model, extra_body=tuning)
        assert job.tuning["adapter"]["also_train"] == ["embeddings", "head"]
    with pytest.raises(openai.BadRequestError, match="has 'embeddings', 'head'") as refused:
        create(model=model, extra_body={"tuning": {"adapter": {"also_train": []}}})
    assert refused.value.param == "tuning.adapter.also_train"


def test_a_job_that_goes_on_from_4_bits_stays_on_4_bits(create: Create, world: Any) -> None:
    first = create(extra_body={"tuning": {"adapter": {"kind": "qlora"}}})
    world.run(first.id)
    job = create(model=world.finish(first.id).fine_tuned_model)
    assert job.tuning["adapter"]["kind"] == "qlora"


def test_a_model_whose_adapter_or_base_is_gone_is_named(
    create: Create, http: TestClient, world: Any, tuned: Any
) -> None:
    world.artifacts.delete(f"output/{tuned.id}")
    with pytest.raises(openai.NotFoundError, match="no longer there") as refused:
        create(model=tuned.fine_tuned_model)
    assert (refused.value.param, refused.value.code) == ("model", "model_not_found")


def test_a_checkpoint_of_a_job_that_goes_on_is_not_to_start_from_nor_to_delete(
    create: Create, client: openai.OpenAI, world: Any
) -> None:
    job = create()
    world.run(job.id)
    [newest, _] = client.fine_tuning.jobs.checkpoints.list(job.id)
    name = newest.fine_tuned_model_checkpoint
    for attempt in (create, client.models.delete):
        with pytest.raises(openai.ConflictError, match=job.id) as refused:
            attempt(name)
        assert refused.value.code == "model_in_use"
    ended(world, job.id)
    assert create(name).model == name


@pytest.mark.parametrize("end", ["", ":ckpt-step-5"])
def test_what_an_unfinished_job_starts_from_is_not_deleted(
    create: Create, client: openai.OpenAI, world: Any, tuned: Any, end: str
) -> None:
    job = create(f"{tuned.fine_tuned_model}{end}")
    with pytest.raises(openai.ConflictError, match=job.id) as refused:
        client.models.delete(tuned.fine_tuned_model)
    assert refused.value.code == "model_in_use"
    assert client.models.delete(f"{tuned.fine_tuned_model}:ckpt-step-10").deleted
    client.fine_tuning.jobs.cancel(job.id)
    assert client.models.delete(tuned.fine_tuned_model).deleted
    with pytest.raises(openai.NotFoundError):
        create(tuned.fine_tuned_model)


def test_a_checkpoint_is_retrieved_and_deleted_by_its_name_alone(
    client: openai.OpenAI, world: Any, tuned: Any
) -> None:
    name = f"{tuned.fine_tuned_model}:ckpt-step-5"
    shown = client.models.retrieve(name)
    assert (shown.id, shown.owned_by, shown.created) == (name, "acme", 105)
    assert name not in [model.id for model in client.models.list()]
    assert client.models.delete(name).deleted
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(name)
    assert world.artifacts.list(f"output/{tuned.id}/checkpoint-5") == []
    assert world.artifacts.list(f"runs/{tuned.id}/checkpoints/step-5") == []
    assert [c.step_number for c in client.fine_tuning.jobs.checkpoints.list(tuned.id)] == [10]
    assert client.models.retrieve(tuned.fine_tuned_model).id == tuned.fine_tuned_model


@pytest.mark.parametrize(("end", "step"), [("", None), ("/checkpoint-5", 5)])
def test_opeas_clients_go_on_from_the_path_that_they_were_given(
    http: TestClient, upload: Create, world: Any, tuned: Any, end: str, step: int | None
) -> None:
    upload("alpaca_data.json")
    listed = http.post(
        "/v1/finetune/list_checkpoints", json={"fine_tuning_job_id": tuned.id}
    ).json()
    path = next(c["fine_tuned_model_checkpoint"] for c in listed if c["step_number"] == step)
    assert path == f"output/{tuned.id}{end}"
    body = {
        "training_file": "alpaca_data.json",
        "model": "smollm2-135m-instruct",
        "General": {"resume_from_checkpoint": path},
    }
    job = http.post(JOBS, json=body).json()
    assert job["model"] == "smollm2-135m-instruct"
    assert world.store.job(job["id"]).start_from.key == path
    body["model"] = "org/tiny-llama"
    wrong = http.post(JOBS, json=body).json()["error"]
    assert (wrong["param"], "resume_from_checkpoint" in wrong["message"]) == ("model", True)
    body["General"] = {"resume_from_checkpoint": path, "task": "embedding"}
    body["model"] = "smollm2-135m-instruct"
    other = http.post(JOBS, json=body).json()["error"]
    assert other["param"] == "General.resume_from_checkpoint"
    assert "needs another kind of model" in other["message"]
    body["General"] = {"resume_from_checkpoint": "output/ft-job-none/checkpoint-5"}
    missing = http.post(JOBS, json=body).json()["error"]
    assert missing["param"] == "General.resume_from_checkpoint"
    body["General"] = {"resume_from_checkpoint": path, "lora_config": {"r": 64}}
    body["model"] = "smollm2-135m-instruct"
    assert http.post(JOBS, json=body).json()["error"]["param"] == "General.lora_config.r"
