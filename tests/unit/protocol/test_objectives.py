"""What a job learns, and by which loss: asked for by name, and contradictions are refused."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.hyperparameters import resolve_hyperparameters
from tunesmith.domain.ids import Dialect
from tunesmith.domain.jobs import Job, JobStatus
from tunesmith.domain.preferences import Ipo, Kto, Orpo, Preference, Sigmoid, Simpo
from tunesmith.domain.spec import JobRequest, Method
from tunesmith.protocol.jobs import CreateJob, JobObject
from tunesmith.protocol.reading import read_shape

DPO: dict[str, Any] = {"type": "dpo"}


def create(tuning: dict[str, Any], **keys: Any) -> JobRequest:
    body = {"model": "m", "training_file": "file-1", "tuning": tuning}
    return read_shape(CreateJob, body | keys).to_request()


def refusal(tuning: dict[str, Any], **keys: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as refused:
        create(tuning, **keys)
    return refused.value


def shown(request: JobRequest, *, resolved: bool = False) -> dict[str, Any]:
    job = Job(
        id="ftjob-1",
        dialect=Dialect.OPENAI,
        created_at=1,
        status=JobStatus.QUEUED,
        model="m",
        training_file="file-1",
        training_filename="a.jsonl",
        request=request,
        resolved=resolve_hyperparameters(request, examples=100) if resolved else None,
        seed=7,
        organization="acme",
    )
    return JobObject.to_wire(job).model_dump()


@pytest.mark.parametrize(
    ("given", "loss"),
    [
        ({}, Sigmoid()),
        ({"loss": "ipo"}, Ipo()),
        ({"loss": "kto"}, Kto(desirable_weight=1, undesirable_weight=1)),
        ({"loss": "kto", "desirable_weight": 1.3}, Kto(desirable_weight=1.3)),
        ({"loss": "kto", "undesirable_weight": 2}, Kto(undesirable_weight=2)),
        ({"loss": "orpo"}, Orpo(odds_weight=0.1)),
        ({"loss": "orpo", "odds_weight": 0}, Orpo(odds_weight=0)),
        ({"loss": "simpo"}, Simpo(scale=2, gamma=1)),
        ({"loss": "simpo", "scale": 10, "gamma": 0.5}, Simpo(scale=10, gamma=0.5)),
    ],
)
def test_a_loss_is_chosen_by_name_with_its_own_settings(
    given: dict[str, Any], loss: Preference
) -> None:
    request = create({"preference": given}, method=DPO)

    assert (request.method, request.preference) == (Method.DPO, loss)
    assert JobRequest.model_validate_json(request.model_dump_json()) == request
    assert (
        shown(request)["tuning"]["preference"]
        == {
            "loss": "sigmoid",
            "desirable_weight": None,
            "undesirable_weight": None,
            "odds_weight": None,
            "scale": None,
            "gamma": None,
        }
        | loss.model_dump()
    )


@pytest.mark.parametrize(
    ("loss", "key"),
    [
        ("sigmoid", "gamma"),
        ("ipo", "odds_weight"),
        ("kto", "scale"),
        ("orpo", "desirable_weight"),
        ("simpo", "undesirable_weight"),
    ],
)
def test_a_setting_that_the_loss_does_not_have_is_refused_by_name(loss: str, key: str) -> None:
    refused = refusal({"preference": {"loss": loss, key: 1}}, method=DPO)
    assert refused.param == f"tuning.preference.{key}"
    assert f"the loss '{loss}' has no such setting" in refused.message


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"loss": "rrhf"}, "loss"),
        ({"loss": "kto", "desirable_weight": 0}, "desirable_weight"),
        ({"loss": "kto", "undesirable_weight": 101}, "undesirable_weight"),
        ({"loss": "orpo", "odds_weight": -1}, "odds_weight"),
        ({"loss": "simpo", "scale": 0}, "scale"),
        ({"loss": "simpo", "gamma": -0.1}, "gamma"),
        ({"loss": "simpo", "lambda": 1}, "lambda"),
    ],
)
def test_a_setting_out_of_bounds_is_refused_by_name(given: dict[str, Any], key: str) -> None:
    assert refusal({"preference": given}, method=DPO).param == f"tuning.preference.{key}"


@pytest.mark.parametrize("loss", ["orpo", "simpo"])
def test_a_loss_without_reference_takes_no_beta_and_shows_none(loss: str) -> None:
    preference = {"preference": {"loss": loss}}
    with_beta = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}}

    assert refusal(preference, method=with_beta).param == "method.dpo.hyperparameters.beta"
    for resolved in (False, True):
        job = shown(create(preference, method=DPO), resolved=resolved)
        assert job["method"]["dpo"]["hyperparameters"]["beta"] is None


@pytest.mark.parametrize("loss", ["sigmoid", "ipo", "kto"])
def test_a_loss_with_a_reference_takes_beta(loss: str) -> None:
    with_beta = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}}
    request = create({"preference": {"loss": loss}}, method=with_beta)
    assert request.beta == 0.2
    assert shown(request, resolved=True)["method"]["dpo"]["hyperparameters"]["beta"] == 0.2
    open_one = create({"preference": {"loss": loss}}, method=DPO)
    assert shown(open_one)["method"]["dpo"]["hyperparameters"]["beta"] == "auto"
    assert shown(open_one, resolved=True)["method"]["dpo"]["hyperparameters"]["beta"] == 0.1


def test_a_loss_of_pairs_needs_the_method_dpo() -> None:
    assert refusal({"preference": {}}).param == "tuning.preference"
    assert refusal({"preference": {}, "objective": "reasoning"}).param == "tuning.preference"


OBJECTIVES = ["supervised", "reasoning", "pretraining", "embedding", "rerank"]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("method", [None, {"type": "supervised"}])
def test_an_objective_says_what_is_learnt_by_openais_supervised_method(
    objective: str, method: dict[str, Any] | None
) -> None:
    hyperparameters = {"n_epochs": 3}
    request = create({"objective": objective}, method=method, hyperparameters=hyperparameters)

    assert request == JobRequest(method=Method(objective), n_epochs=3)
    job = shown(request)
    assert job["method"]["type"] == "supervised"
    assert job["hyperparameters"]["n_epochs"] == 3
    assert (job["tuning"]["objective"], job["tuning"]["preference"]) == (objective, None)


def test_without_an_objective_the_method_says_what_is_learnt() -> None:
    assert create({"objective": None}).method is Method.SUPERVISED
    assert create({}, method=DPO).method is Method.DPO
    assert shown(create({}))["tuning"]["objective"] == "supervised"
    assert shown(create({}, method=DPO))["tuning"]["objective"] is None


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_objective_beside_the_method_dpo_is_refused_by_name(objective: str) -> None:
    refused = refusal({"objective": objective}, method=DPO)
    assert refused.param == "tuning.objective"
    assert f"is '{objective}', but 'method.type' is 'dpo'" in refused.message


def test_pairs_are_no_objective_and_neither_is_an_unknown_word() -> None:
    assert refusal({"objective": "dpo"}).param == "tuning.objective"
    assert refusal({"objective": "sft"}).param == "tuning.objective"


def test_marks_of_thoughts_are_for_reasoning() -> None:
    request = create({"objective": "reasoning", "think": ["[T]", "[/T]"]})

    assert request.think == ("[T]", "[/T]")
    assert JobRequest.model_validate_json(request.model_dump_json()) == request
    assert shown(request)["tuning"]["think"] == ["[T]", "[/T]"]
    assert shown(create({"objective": "reasoning"}))["tuning"]["think"] == ["<think>", "</think>"]
    assert shown(create({}))["tuning"]["think"] is None
    assert refusal({"think": ["[T]", "[/T]"]}).param == "tuning.think"


@pytest.mark.parametrize("think", [["a"], ["a", "b", "c"], ["a", "a"], ["a b", "c"], ["", "c"]])
def test_marks_are_two_different_words(think: list[str]) -> None:
    param = refusal({"objective": "reasoning", "think": think}).param
    assert param is not None
    assert param.startswith("tuning.think")
