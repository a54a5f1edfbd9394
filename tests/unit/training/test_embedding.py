"""Vectors: the loss is InfoNCE written out, and knows nothing of micro-batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModel

from tunesmith.domain.spec import Method
from tunesmith.training import examples as examples_module
from tunesmith.training.embedding import Embedding
from tunesmith.training.examples import Examples, micro_batches
from tunesmith.training.fitting import Division
from tunesmith.training.network import Network
from tunesmith.training.objective import evaluate
from unit.training.ranking import asked, gradients, learn, ranking_rows, read_rows

if TYPE_CHECKING:
    from pathlib import Path

    from unit.training.conftest import Bench

RANKINGS: list[dict[str, Any]] = [
    {},
    {"pooling": "mean"},
    {"normalized": False, "temperature": 5.0},
    {"in_batch_negatives": False},
    {"query_instruction": "Find: ", "passage_instruction": "Text: "},
]


def by_hand(model: Any, examples: Examples, ranking: Any) -> tuple[torch.Tensor, float]:
    """Mean loss, fp64 with its gradient, and mean reciprocal rank, one query after the other."""

    def vector(at: int, text: int) -> torch.Tensor:
        states = model(input_ids=torch.tensor([tokens(at, text)])).last_hidden_state[0].double()
        pooled = states[0] if ranking.pooling == "cls" else states.mean(dim=0)
        found: torch.Tensor = pooled / pooled.norm() if ranking.normalized else pooled
        return found

    def tokens(at: int, text: int) -> list[int]:
        span = slice(examples.starts[at, text], examples.ends[at, text])
        return [int(token) for token in examples.tokens[span]]

    places = [(at, text) for at in range(len(examples)) for text in range(examples.starts.shape[1])]
    known = {place: vector(*place) for place in places}
    losses, reciprocal = [], []
    for at in range(len(examples)):
        right = torch.exp(known[at, 0] @ known[at, 1] / ranking.temperature)
        wrong = [
            torch.exp(known[at, 0] @ known[place] / ranking.temperature)
            for place in places
            if place[1] > 0
            and (ranking.in_batch_negatives or place[0] == at)
            and tokens(*place) != tokens(at, 1)
        ]
        losses.append(-torch.log(right / (right + sum(wrong))))
        reciprocal.append(1 / (1 + sum(bool(each >= right) for each in wrong)))
    return torch.stack(losses).mean(), sum(reciprocal) / len(reciprocal)


@pytest.mark.parametrize("ranking", RANKINGS, ids=str)
@pytest.mark.parametrize("budget", [1, 200, 10**6])
def test_loss_and_gradients_are_those_written_out_whatever_the_micro_batches(
    bench: Bench,
    bert_folder: Path,
    ranking: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    budget: int,
) -> None:
    fields = asked(bert_folder, Method.EMBEDDING, **ranking)
    examples = read_rows(bench, ranking_rows(7)[1:], fields)
    model = AutoModel.from_pretrained(bert_folder).eval()
    reference = AutoModel.from_pretrained(bert_folder).double().eval()
    expected, _ = by_hand(reference, examples, fields["ranking"])
    torch.autograd.backward(expected)
    monkeypatch.setattr(examples_module, "MICRO_BATCH_TOKENS", budget)

    batches = list(micro_batches(examples, examples.all))
    loss = learn(Embedding(fields["ranking"], 6), Network(model), batches, seed=1)

    assert len(batches) == {1: len(examples), 200: len(batches), 10**6: 1}[budget]
    assert loss == pytest.approx(expected.item(), rel=1e-4)
    found, wanted = gradients(model), gradients(reference)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-6), name


def test_dropout_is_the_same_in_both_passes_through_the_model(
    bench: Bench, bert_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient is the slope of the loss that was told, dropout and all."""
    monkeypatch.setattr(examples_module, "MICRO_BATCH_TOKENS", 150)
    fields = asked(bert_folder, Method.EMBEDDING)
    examples = read_rows(bench, ranking_rows(6), fields)
    batches = list(micro_batches(examples, examples.all))
    assert len(batches) > 2
    model = AutoModel.from_pretrained(bert_folder).double().train()
    objective, network = Embedding(fields["ranking"], 6), Network(model)
    weight = model.get_parameter("encoder.layer.0.output.dense.weight")
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)

    learn(objective, network, batches, seed=3)
    slope = gradients(model)["encoder.layer.0.output.dense.weight"]
    direction = slope / slope.norm()
    around = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            weight.add_(direction, alpha=step)
        around.append(learn(objective, network, batches, seed=3))

    measured = (around[0] - around[1]) / 2e-6
    assert measured == pytest.approx(slope.norm().item(), rel=1e-3)


def test_a_passage_that_is_anothers_answer_too_does_not_count_against_it(
    bench: Bench, bert_folder: Path
) -> None:
    rows = [
        {"query": "one", "pos": ["both"], "neg": []},
        {"query": "two", "pos": ["both"], "neg": []},
    ]
    fields = asked(bert_folder, Method.EMBEDDING)
    examples = read_rows(bench, rows, fields)
    model = AutoModel.from_pretrained(bert_folder)

    score = evaluate(
        Embedding(fields["ranking"], 2), Network(model), batches=Division(examples, examples.all)
    ).mean

    assert score.loss == 0
    assert (score.accuracy, score.further["mrr"]) == (1, 1)


@pytest.mark.parametrize("batch_size", [2, 3, 7])
def test_held_out_queries_have_as_many_against_them_as_those_of_a_step(
    bench: Bench, bert_folder: Path, batch_size: int
) -> None:
    fields = asked(bert_folder, Method.EMBEDDING)
    examples = read_rows(bench, ranking_rows(7), fields)
    model = AutoModel.from_pretrained(bert_folder)
    reference = AutoModel.from_pretrained(bert_folder).double().eval()
    parts = [examples.all[at : at + batch_size] for at in range(0, 7, batch_size)]
    found = [
        (len(part), by_hand(reference, examples.take(part), fields["ranking"])) for part in parts
    ]

    score = evaluate(
        Embedding(fields["ranking"], batch_size),
        Network(model),
        batches=Division(examples, examples.all),
    ).mean

    assert score.loss == pytest.approx(sum(n * each[0].item() for n, each in found) / 7, rel=1e-4)
    assert score.further["mrr"] == pytest.approx(sum(n * each[1] for n, each in found) / 7)
    assert all(weight.grad is None for weight in model.parameters())
    assert model.training
