"""The losses of pairs beside DPO's: each is its paper's, written out in plain numbers."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunesmith.domain.preferences import Ipo, Kto, Orpo, Preference, Sigmoid, Simpo
from tunesmith.domain.spec import LoraSpec, Method
from tunesmith.training import examples as examples_module
from tunesmith.training.examples import Examples, MicroBatch, micro_batches
from tunesmith.training.fitting import Division
from tunesmith.training.network import Network
from tunesmith.training.objective import Measured, evaluate, for_batch
from tunesmith.training.orpo import _log_odds
from tunesmith.training.preferences import preference_objective
from tunesmith.training.reading import read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unit.training.conftest import Bench

LOSSES: list[Preference] = [
    Sigmoid(),
    Ipo(),
    Kto(desirable_weight=1.5, undesirable_weight=0.5),
    Orpo(odds_weight=0.3),
    Simpo(scale=2.5, gamma=0.7),
]
BETA = 0.3
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.loss)


def pair_rows(count: int) -> list[dict[str, Any]]:
    """Pairs whose lengths differ, within a pair too."""
    return [
        {
            "prompt": f"Say {n}{' please' * (n % 3)}",
            "chosen": f"YES {n} " * (1 + n % 2),
            "rejected": f"no {n} " * (1 + n % 4),
        }
        for n in range(count)
    ]


def changes(loss: Preference, **further: Any) -> dict[str, Any]:
    beta = None if isinstance(loss, Orpo | Simpo) else BETA
    return {"method": Method.DPO, "preference": loss, "beta": beta} | further


@pytest.fixture
def model(bench: Bench) -> Any:
    return AutoModelForCausalLM.from_pretrained(bench.base).eval()


@pytest.fixture
def pairs(bench: Bench, model: Any) -> Examples:
    """Seven pairs, and a reference that finds them likelier or less likely by up to 9 nats."""
    spec = bench.write_spec(pair_rows(7), **changes(Sigmoid()))
    tokenizer = AutoTokenizer.from_pretrained(bench.base)
    with bench.artifacts.open(spec.training_file.key) as stream:
        found = read_file(
            stream, tokenizer, spec=spec, limit=None, folder=Path(gettempdir())
        ).examples
    now = np.array([[sum(text) for text in pair] for pair in chances(model, found)])
    moved = np.random.default_rng(3).uniform(-9, 9, now.shape) - [3, -3]
    return Examples(**{**vars(found), "reference": now - moved})


def chances(model: Any, examples: Examples) -> list[list[list[float]]]:
    """Log-probability of each learnt token of each text of each pair, one text at a time."""
    found = []
    for starts, ends in zip(examples.starts, examples.ends, strict=True):
        pair = []
        for start, end in zip(starts, ends, strict=True):
            tokens, learn = examples.tokens[start:end].tolist(), examples.learn[start:end]
            with torch.no_grad():
                logits = model(torch.tensor([tokens])).logits[0].double()
            logs = torch.log_softmax(logits, dim=-1)
            pair.append([logs[at - 1, tokens[at]].item() for at in np.flatnonzero(learn)])
        found.append(pair)
    return found


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def by_hand(loss: Preference, model: Any, pairs: Examples) -> tuple[float, list[float], float]:
    """The loss, mean rewards of both sides, and share of pairs got right, from the papers."""
    assert pairs.reference is not None
    logs = chances(model, pairs)
    gain = [
        [sum(text) - before for text, before in zip(pair, known, strict=True)]
        for pair, known in zip(logs, pairs.reference.tolist(), strict=True)
    ]
    mean = [[sum(text) / len(text) for text in pair] for pair in logs]
    rewards = [[BETA * side for side in pair] for pair in gain]
    match loss:
        case Sigmoid():
            losses = [-math.log(sigmoid(w - r)) for w, r in rewards]
        case Ipo():
            losses = [(w - r - 1 / (2 * BETA)) ** 2 for w, r in gain]
        case Kto():
            z_chosen = max(0.0, sum(w for w, _ in gain) / len(gain))
            z_rejected = max(0.0, sum(r for _, r in gain) / len(gain))
            losses = [
                (1.5 * (1 - sigmoid(BETA * (w - z_rejected))) / 2)
                + (0.5 * (1 - sigmoid(BETA * (z_chosen - r))) / 2)
                for w, r in gain
            ]
        case Orpo():
            odds = [[math.exp(m) / (1 - math.exp(m)) for m in pair] for pair in mean]
            losses = [
                -m[0] - 0.3 * math.log(sigmoid(math.log(w / r)))
                for m, (w, r) in zip(mean, odds, strict=True)
            ]
            rewards = mean
        case Simpo():
            rewards = [[2.5 * m for m in pair] for pair in mean]
            losses = [-math.log(sigmoid(w - r - 0.7)) for w, r in rewards]
    right = sum(w > r for w, r in rewards)
    sides = [sum(side) / len(rewards) for side in zip(*rewards, strict=True)]
    return sum(losses) / len(losses), sides, right / len(rewards)


def measured(loss: Preference, model: Any, pairs: Examples) -> list[Measured]:
    objective = preference_objective(spec_of(loss))
    network = Network(model)
    batches = list(micro_batches(pairs, pairs.all))
    whole = for_batch(objective, network, batches=batches)
    assert sum(whole.count(batch) for batch in batches) == len(pairs)
    return [whole.measure(network, batch) for batch in batches]


def spec_of(loss: Preference) -> Any:
    class Spec:
        preference = loss
        beta = changes(loss)["beta"]

    return Spec()


@each_loss
def test_loss_rewards_and_accuracy_are_the_papers_in_plain_numbers(
    model: Any, pairs: Examples, loss: Preference
) -> None:
    expected, sides, right = by_hand(loss, model, pairs)

    parts = measured(loss, model, pairs)

    assert sum(part.loss.item() for part in parts) / 7 == pytest.approx(expected, rel=1e-5)
    assert sum(part.correct for part in parts) / 7 == right
    if isinstance(loss, Orpo):
        assert not any(part.further for part in parts), "its paper has no rewards"
        return
    for name, side in zip(("rewards_chosen", "rewards_rejected"), sides, strict=True):
        assert sum(part.further[name] for part in parts) / 7 == pytest.approx(side, abs=1e-5)
    margin = sum(part.further["rewards_margin"] for part in parts) / 7
    assert margin == pytest.approx(sides[0] - sides[1], abs=1e-5)


def test_the_two_halves_of_ktos_divergence_are_above_and_below_zero_here(
    model: Any, pairs: Examples
) -> None:
    # Else the test above would not see which half is used, or that it is never below 0.
    assert pairs.reference is not None
    gained = np.array([[sum(text) for text in pair] for pair in chances(model, pairs)])
    low, high = sorted((gained - pairs.reference).mean(axis=0))
    assert low < -0.5
    assert high > 0.5


def gradient(loss: Preference, model: Any, pairs: Examples) -> torch.Tensor:
    model.zero_grad()
    for part in measured(loss, model, pairs):
        torch.autograd.backward(part.loss / len(pairs))
    return torch.cat([weight.grad.ravel().clone() for weight in model.parameters()])


@each_loss
def test_loss_and_gradient_are_the_same_whatever_the_micro_batches(
    model: Any, pairs: Examples, monkeypatch: pytest.MonkeyPatch, loss: Preference
) -> None:
    found = []
    for budget in (1, 150, 10**9):
        monkeypatch.setattr(examples_module, "MICRO_BATCH_TOKENS", budget)
        sums = sum(part.loss.item() for part in measured(loss, model, pairs))
        found.append((sums, gradient(loss, model, pairs)))

    assert len(list(micro_batches(pairs, pairs.all))) == 1
    for sums, slope in found[:-1]:
        assert sums == pytest.approx(found[-1][0], rel=1e-6)
        torch.testing.assert_close(slope, found[-1][1], rtol=1e-4, atol=1e-6)


def test_ktos_divergence_is_measured_without_dropout_and_leaves_the_model_as_it_was(
    model: Any, pairs: Examples
) -> None:
    objective = preference_objective(spec_of(Kto()))
    for training in (True, False):
        model.train(training)
        for_batch(objective, Network(model), batches=micro_batches(pairs, pairs.all))
        assert model.training is training


def test_ktos_divergence_leaves_the_model_as_it_was_where_it_breaks_off(
    model: Any, pairs: Examples
) -> None:
    def broken() -> Iterator[MicroBatch]:
        yield from micro_batches(pairs, pairs.all)
        raise MemoryError

    model.train()
    with pytest.raises(MemoryError):
        for_batch(preference_objective(spec_of(Kto())), Network(model), batches=broken())

    assert model.training


def test_an_evaluation_takes_ktos_divergence_over_all_held_out_pairs(
    model: Any, pairs: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples_module, "MICRO_BATCH_TOKENS", 1)
    loss = LOSSES[2]

    score = evaluate(
        preference_objective(spec_of(loss)), Network(model), batches=Division(pairs, pairs.all)
    ).mean

    assert score.loss == pytest.approx(by_hand(loss, model, pairs)[0], rel=1e-5)


def test_an_answer_that_is_all_but_certain_has_finite_odds() -> None:
    means = torch.tensor([0.0, -1e-12, -50.0], dtype=torch.float64, requires_grad=True)

    odds = _log_odds(means)
    torch.autograd.backward(odds.sum())

    assert torch.isfinite(odds).all()
    assert torch.isfinite(means.grad).all()  # type: ignore[arg-type]
    assert odds[2].item() == pytest.approx(-50)


FIRST_LOSS = {"ipo": (1 / (2 * BETA)) ** 2, "kto": 0.5, "sigmoid": math.log(2)}


@each_loss
def test_a_run_learns_to_prefer_and_measures_a_reference_only_where_there_is_one(
    bench: Bench, loss: Preference
) -> None:
    if isinstance(loss, Kto):
        loss = Kto()
    bench.write_spec(pair_rows(12), **changes(loss, n_epochs=8, learning_rate=1e-2))

    assert bench.train().error is None

    first, last = bench.metrics()[0], bench.metrics()[-1]
    assert last.train_loss < first.train_loss
    assert last.train_mean_token_accuracy == 1
    told = [text for text in bench.messages() if text.startswith("Measuring")]
    if loss.loss in FIRST_LOSS:
        assert first.train_loss == pytest.approx(FIRST_LOSS[loss.loss], abs=1e-4)
        assert told
        assert bench.run.reference() is not None
    else:
        assert not told
        assert bench.run.reference() is None
    assert (last.rewards_margin is None) is isinstance(loss, Orpo)


@each_loss
def test_a_run_that_was_killed_ends_with_the_same_bytes(
    new_bench: Callable[[str], Bench], loss: Preference
) -> None:
    whole, killed = new_bench("whole"), new_bench("killed")
    spec = changes(loss, n_epochs=2, held_out_percent=20.0, checkpoint_every=1)
    spec["lora"] = LoraSpec(rank=4, dropout=0.2)
    whole.write_spec(pair_rows(10), **spec)
    whole.train()
    killed.write_spec(pair_rows(10), **spec)
    killed.train_until(b"Step 3/")

    killed.train(attempt=2)

    assert killed.adapter() == whole.adapter()
    assert killed.metrics()[-1].valid_loss == whole.metrics()[-1].valid_loss


@each_loss
def test_a_step_on_all_pairs_has_the_loss_that_the_evaluation_before_it_found(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, loss: Preference
) -> None:
    monkeypatch.setattr(examples_module, "MICRO_BATCH_TOKENS", 1)
    same = bench.upload("valid", pair_rows(6))
    steps = {"n_epochs": 4, "batch_size": 6, "evaluate_every": 1, "learning_rate": 2e-2}
    bench.write_spec(pair_rows(6), validation_file=same, **changes(loss, **steps))

    assert bench.train().error is None

    metrics = bench.metrics()
    for before, step in itertools.pairwise(metrics):
        assert step.train_loss == pytest.approx(before.valid_loss, rel=1e-5)
    assert len({round(one.train_loss, 4) for one in metrics}) == 4
