"""The loss of a step is the one that plain arithmetic gives, however the batch is cut up."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunesmith.training import examples as examples_module
from tunesmith.training.examples import Examples, MicroBatch, micro_batches
from tunesmith.training.fitting import Division
from tunesmith.training.network import Network
from tunesmith.training.objective import Measured, evaluate
from tunesmith.training.reading import read_file
from tunesmith.training.supervised import Supervised

if TYPE_CHECKING:
    from collections.abc import Callable

    from unit.training.conftest import Bench, Rows


@pytest.fixture
def model(base_folder: Path) -> torch.nn.Module:
    loaded: torch.nn.Module = AutoModelForCausalLM.from_pretrained(base_folder)
    return loaded


@pytest.fixture
def examples(bench: Bench, rows: Callable[[int], Rows]) -> Examples:
    spec = bench.write_spec(rows(6))
    tokenizer = AutoTokenizer.from_pretrained(bench.base)
    with bench.artifacts.open(spec.training_file.key) as stream:
        return read_file(
            stream, tokenizer, spec=spec, limit=None, folder=Path(gettempdir())
        ).examples


def measure(model: torch.nn.Module, batch: MicroBatch) -> Measured:
    return Supervised().measure(Network(model), batch)


def reference(model: torch.nn.Module, examples: Examples) -> tuple[float, float]:
    """Mean loss and accuracy, one example at a time, token by token."""
    losses, hits = [], []
    for start, end in zip(examples.starts[:, 0], examples.ends[:, 0], strict=True):
        tokens = examples.tokens[start:end].tolist()
        learn = examples.learn[start:end]
        with torch.no_grad():
            logits = model(torch.tensor([tokens])).logits[0].double()
        for at in range(1, len(tokens)):
            if learn[at]:
                chances = torch.log_softmax(logits[at - 1], dim=-1)
                losses.append(-chances[tokens[at]].item())
                hits.append(int(chances.argmax()) == tokens[at])
    return sum(losses) / len(losses), sum(hits) / len(hits)


@pytest.mark.parametrize("budget", [1, 150, 100_000])
def test_loss_and_gradient_are_the_same_whatever_the_micro_batches(
    model: torch.nn.Module, examples: Examples, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    monkeypatch.setattr(examples_module, "MICRO_BATCH_TOKENS", budget)
    expected, _ = reference(model, examples)

    batches = list(micro_batches(examples, examples.all))
    learnt = sum(batch.learnt_tokens for batch in batches)
    for batch in batches:
        torch.autograd.backward(measure(model, batch).loss / learnt)
    loss = sum(measure(model, batch).loss.item() for batch in batches) / learnt
    head = model.get_parameter("lm_head.weight").grad
    assert head is not None

    assert loss == pytest.approx(expected, abs=1e-5)
    assert head.norm().item() == pytest.approx(whole_gradient(model, examples), rel=1e-4)


def whole_gradient(model: torch.nn.Module, examples: Examples) -> float:
    """Norm of the head's gradient, from the logits of one example at a time."""
    model.zero_grad()
    losses, count = torch.zeros(()), 0
    for start, end in zip(examples.starts[:, 0], examples.ends[:, 0], strict=True):
        tokens = torch.from_numpy(examples.tokens[start:end].astype(np.int64))
        wanted = tokens.masked_fill(~torch.from_numpy(examples.learn[start:end].copy()), -100)
        logits = model(tokens[None]).logits[0, :-1]
        losses = losses + torch.nn.functional.cross_entropy(
            logits, wanted[1:], ignore_index=-100, reduction="sum"
        )
        count += int((wanted[1:] >= 0).sum())
    torch.autograd.backward(losses / count)
    gradient = model.get_parameter("lm_head.weight").grad
    assert gradient is not None
    return float(gradient.norm())


def test_a_model_that_cannot_keep_some_logits_gives_the_same_loss(
    model: torch.nn.Module, examples: Examples
) -> None:
    class WithoutChoice(torch.nn.Module):
        def forward(self, **inputs: object) -> object:
            assert "logits_to_keep" not in inputs
            return model(**inputs)

    batch = next(micro_batches(examples, examples.all))

    assert measure(WithoutChoice(), batch).loss.item() == pytest.approx(
        measure(model, batch).loss.item(), abs=1e-4
    )


def test_a_text_is_neither_changed_nor_counted_by_its_neighbours(
    model: torch.nn.Module, examples: Examples
) -> None:
    [together] = micro_batches(examples, examples.all)
    alone = [next(micro_batches(examples, np.array([at]))) for at in range(len(examples))]

    assert len(set(together.lengths)) > 1
    assert together.tokens == sum(batch.tokens for batch in alone) == len(examples.tokens)
    assert measure(model, together).loss.item() == pytest.approx(
        sum(measure(model, batch).loss.item() for batch in alone), rel=1e-6
    )


def test_hidden_states_are_those_of_each_text_alone(
    model: torch.nn.Module, examples: Examples
) -> None:
    [together] = micro_batches(examples, examples.all)

    states = Network(model).hidden_states(together)

    for at, (found, ids) in enumerate(
        zip(
            torch.split(states, list(together.lengths)),
            torch.split(together.input_ids, list(together.lengths)),
            strict=True,
        )
    ):
        alone = model.get_submodule("model")(ids[None]).last_hidden_state[0]
        assert torch.allclose(found, alone, atol=1e-5), at


def test_evaluation_is_right_and_leaves_no_gradient(
    model: torch.nn.Module, examples: Examples
) -> None:
    loss, accuracy = reference(model.eval(), examples)

    score = evaluate(Supervised(), Network(model), batches=Division(examples, examples.all)).mean

    assert score.loss == pytest.approx(loss, abs=1e-5)
    assert score.accuracy == pytest.approx(accuracy)
    assert model.training
    assert all(weight.grad is None for weight in model.parameters())


def test_the_training_losses_told_are_those_of_the_untouched_model_at_first(
    bench: Bench, rows: Callable[[int], Rows], model: torch.nn.Module, examples: Examples
) -> None:
    bench.write_spec(rows(6), batch_size=6, n_epochs=1)
    bench.train()

    loss, accuracy = reference(model, examples)

    told = bench.metrics()[0]
    assert told.train_loss == pytest.approx(loss, abs=1e-5)
    assert told.train_mean_token_accuracy == pytest.approx(accuracy)


def test_the_validation_loss_told_is_that_of_the_trained_adapter(
    bench: Bench, rows: Callable[[int], Rows], examples: Examples
) -> None:
    bench.write_spec(rows(8), validation_file=bench.upload("valid", rows(6)))
    bench.train()

    base = AutoModelForCausalLM.from_pretrained(bench.base)
    loss, _ = reference(PeftModel.from_pretrained(base, bench.output).eval(), examples)

    receipt = json.loads(bench.artifacts.get(f"{bench.run.prefix}/receipt.json"))
    assert bench.metrics()[-1].valid_loss == pytest.approx(loss, abs=1e-5)
    assert receipt["validation"]["report"]["examples"] == 6
