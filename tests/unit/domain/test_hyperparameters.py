from __future__ import annotations

import pytest

from tunesmith.domain.hyperparameters import (
    BASE_LEARNING_RATES,
    optimizer_steps,
    resolve_hyperparameters,
    resolve_preference,
)
from tunesmith.domain.preferences import Orpo, Preference, Sigmoid, Simpo
from tunesmith.domain.spec import JobRequest, LoraSpec, Method


@pytest.mark.parametrize(
    ("examples", "n_epochs", "batch_size"),
    [(10, 10, 4), (240, 7, 7), (1000, 2, 16), (1501, 1, 16), (52_000, 1, 16)],
)
def test_auto_follows_the_stated_rules(examples: int, n_epochs: int, batch_size: int) -> None:
    resolved = resolve_hyperparameters(JobRequest(), examples=examples)

    assert (resolved.n_epochs, resolved.batch_size) == (n_epochs, batch_size)
    assert resolved.learning_rate == BASE_LEARNING_RATES[Method.SUPERVISED]
    assert resolved.learning_rate_multiplier == 1.0


def test_what_the_request_names_is_kept() -> None:
    request = JobRequest(n_epochs=3, batch_size=64, learning_rate_multiplier=0.5)

    resolved = resolve_hyperparameters(request, examples=10)

    assert (resolved.n_epochs, resolved.batch_size) == (3, 64)
    assert resolved.learning_rate == BASE_LEARNING_RATES[Method.SUPERVISED] / 2


def test_an_absolute_learning_rate_is_taken_as_it_is_and_reported_as_a_factor_too() -> None:
    resolved = resolve_hyperparameters(JobRequest(learning_rate=5e-5), examples=10)

    assert resolved.learning_rate == 5e-5
    assert resolved.learning_rate_multiplier == pytest.approx(0.1)


def test_dpo_begins_at_a_tenth_of_the_supervised_rate_and_at_its_authors_beta() -> None:
    resolved = resolve_hyperparameters(JobRequest(method=Method.DPO), examples=10)

    assert resolved.learning_rate == pytest.approx(BASE_LEARNING_RATES[Method.SUPERVISED] / 10)
    assert (resolved.learning_rate_multiplier, resolved.beta) == (1.0, 0.1)
    assert resolve_hyperparameters(JobRequest(beta=None), examples=10).beta is None


def test_each_method_has_a_usual_learning_rate_and_pairs_and_texts_take_less_than_answers() -> None:
    assert set(BASE_LEARNING_RATES) == set(Method)
    rates = BASE_LEARNING_RATES
    assert rates[Method.REASONING] == rates[Method.SUPERVISED]
    assert rates[Method.DPO] < rates[Method.PRETRAINING] < rates[Method.SUPERVISED]


@pytest.mark.parametrize("loss", [Orpo(), Simpo()])
def test_a_loss_without_reference_has_no_beta(loss: Preference) -> None:
    request = JobRequest(method=Method.DPO, preference=loss)
    assert resolve_hyperparameters(request, examples=10).beta is None
    assert resolve_preference(request) == loss


def test_pairs_are_learnt_by_dpos_own_loss_unless_another_is_named() -> None:
    assert resolve_preference(JobRequest(method=Method.DPO)) == Sigmoid()
    assert resolve_preference(JobRequest()) is None


def test_texts_are_seen_once_unless_the_request_says_more() -> None:
    request = JobRequest(method=Method.PRETRAINING)
    assert resolve_hyperparameters(request, examples=10).n_epochs == 1
    again = request.model_copy(update={"n_epochs": 4})
    assert resolve_hyperparameters(again, examples=10).n_epochs == 4


@pytest.mark.parametrize(("max_steps", "steps"), [(None, 9), (5, 5), (100, 9)])
def test_a_smaller_last_batch_counts_as_a_step_and_max_steps_ends_the_run(
    max_steps: int | None, steps: int
) -> None:
    resolved = resolve_hyperparameters(JobRequest(n_epochs=3, batch_size=4), examples=10)

    assert optimizer_steps(resolved, max_steps=max_steps) == steps


@pytest.mark.parametrize("method", BASE_LEARNING_RATES)
def test_all_weights_take_a_tenth_of_an_adapters_rate(method: Method) -> None:
    rates = [
        resolve_hyperparameters(JobRequest(method=method, lora=lora), examples=10).learning_rate
        for lora in (None, LoraSpec())
    ]
    assert rates[0] == pytest.approx(rates[1] / 10)
