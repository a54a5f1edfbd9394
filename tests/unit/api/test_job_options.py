"""What a job is asked for beyond a file and a model, through the official client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest

from merging import merged
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.jobs import JobChange, JobError, JobStatus
from tunesmith.domain.resolved import ResolvedHyperparameters
from tunesmith.domain.tracking import (
    MlflowIntegration,
    TensorboardIntegration,
    WandbIntegration,
)

Create = Callable[..., Any]


@pytest.fixture
def create(client: openai.OpenAI) -> Create:
    file = client.files.create(file=("train.jsonl", b"{}\n"), purpose="fine-tune")

    def send(**keys: Any) -> Any:
        return client.fine_tuning.jobs.create(
            model="smollm2-135m-instruct", training_file=file.id, **keys
        )

    return send


def test_a_job_of_dpo_shows_its_hyperparameters_in_its_method_alone(
    create: Create, world: Any, client: openai.OpenAI
) -> None:
    job = create(method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.5}}})
    assert job.hyperparameters is None
    assert job.method.type == "dpo"
    assert job.method.dpo.hyperparameters.to_dict() == {
        "batch_size": "auto",
        "learning_rate_multiplier": "auto",
        "n_epochs": "auto",
        "beta": 0.5,
    }
    resolved = ResolvedHyperparameters(
        examples=100,
        n_epochs=3,
        batch_size=4,
        learning_rate_multiplier=1.0,
        learning_rate=5e-5,
        beta=0.5,
    )
    change = JobChange(status=JobStatus.QUEUED, resolved=resolved)
    world.store.change_job(world.store.job(job.id), change)
    known = client.fine_tuning.jobs.retrieve(job.id).method
    assert known is not None
    assert known.dpo is not None
    assert known.dpo.hyperparameters is not None
    assert known.dpo.hyperparameters.to_dict() == {
        "batch_size": 4,
        "learning_rate_multiplier": 1.0,
        "n_epochs": 3,
        "beta": 0.5,
    }


def test_reinforcement_is_refused_with_what_is_supported(create: Create) -> None:
    grader = {"type": "string_check", "name": "g", "input": "a", "reference": "b"}
    with pytest.raises(openai.BadRequestError, match="'supervised' and 'dpo'") as refused:
        create(method={"type": "reinforcement", "reinforcement": {"grader": grader}})
    assert refused.value.code == "unsupported_value"
    assert refused.value.param == "method.type"


def test_our_own_options_come_by_extra_body_and_are_shown_again(create: Create, world: Any) -> None:
    job = create(extra_body={"tuning": {"adapter": {"kind": "dora", "rank": 4}, "max_steps": 9}})
    assert job.tuning["adapter"] == {
        "kind": "dora",
        "rank": 4,
        "alpha": 8.0,
        "dropout": 0.0,
        "targets": None,
        "also_train": [],
    }
    assert job.tuning["max_steps"] == 9
    assert world.store.job(job.id).request.lora.dora


def test_integrations_are_kept_and_shown(create: Create, world: Any) -> None:
    given = {"type": "wandb", "wandb": {"project": "p", "name": None, "tags": ["a", "b"]}}
    job = create(integrations=[given])
    [shown] = job.integrations
    assert (shown.type, shown.wandb.project, shown.wandb.tags) == ("wandb", "p", ["a", "b"])
    [kept] = world.store.job(job.id).request.integrations
    assert (kept.project, kept.tags) == ("p", ("a", "b"))
    assert create().integrations == []


def test_our_own_integrations_stand_beside_openais(create: Create, world: Any) -> None:
    wandb: dict[str, Any] = {"project": "p", "name": None, "entity": None, "tags": []}
    mlflow = {"experiment": "orders", "name": "first", "tags": {"team": "blue"}}
    given = [
        {"type": "tensorboard"},
        {"type": "wandb", "wandb": {"project": "p"}},
        {"type": "mlflow", "mlflow": mlflow},
    ]
    job = create(integrations=given)

    assert [each.to_dict() for each in job.integrations] == [
        {"type": "tensorboard", "tensorboard": {}},
        {"type": "wandb", "wandb": wandb},
        {"type": "mlflow", "mlflow": mlflow},
    ]
    assert world.store.job(job.id).request.integrations == (
        TensorboardIntegration(),
        WandbIntegration(project="p"),
        MlflowIntegration(experiment="orders", name="first", tags={"team": "blue"}),
    )


def test_what_a_job_learns_and_by_which_loss_is_asked_for_and_shown(create: Create) -> None:
    texts = create(extra_body={"tuning": {"objective": "pretraining"}})
    assert texts.method.type == "supervised"
    assert texts.tuning["objective"] == "pretraining"

    pairs = create(
        method={"type": "dpo"}, extra_body={"tuning": {"preference": {"loss": "simpo", "gamma": 2}}}
    )
    assert pairs.tuning["preference"]["gamma"] == 2
    assert pairs.method.dpo.hyperparameters.beta is None

    with pytest.raises(openai.BadRequestError) as refused:
        create(method={"type": "dpo"}, extra_body={"tuning": {"objective": "reasoning"}})
    assert refused.value.param == "tuning.objective"


def test_a_failed_job_is_sent_again_with_the_change_that_it_names(
    client: openai.OpenAI, create: Create, world: Any
) -> None:
    keys = {"tuning": {"adapter": {"kind": "full"}, "max_length": 64}}
    job = create(
        extra_body=keys,
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"learning_rate_multiplier": 5, "n_epochs": 2}},
        },
    )
    error = JobError(
        code=FailureCode.LOSS_EXPLODED, message="Why.", change={"learning_rate": 0.00025}
    )
    change = JobChange(status=JobStatus.FAILED, error=error)
    world.store.change_job(world.store.job(job.id), change)
    failed = client.fine_tuning.jobs.retrieve(job.id)
    assert failed.error is not None
    sent = {
        "model": failed.model,
        "training_file": failed.training_file,
        "method": {
            "type": "supervised",
            "supervised": {"hyperparameters": {"learning_rate_multiplier": 5, "n_epochs": 2}},
        },
        **keys,
    }

    error_shown: dict[str, Any] = failed.error.to_dict()

    request = merged(sent, error_shown["change"])
    again = client.fine_tuning.jobs.create(
        model=request["model"], training_file=request["training_file"], extra_body=request
    )

    shown: dict[str, Any] = again.to_dict()
    tuning = shown["tuning"]
    assert (tuning["learning_rate"], tuning["max_length"]) == (0.00025, 64)
    assert tuning["adapter"]["kind"] == "full"
    assert again.method is not None
    assert again.method.supervised is not None
    assert again.method.supervised.hyperparameters is not None
    assert again.method.supervised.hyperparameters.n_epochs == 2
