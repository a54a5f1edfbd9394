"""A cross-encoder: the loss is the cross-entropy over each group, and types tell the two apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tunesmith.domain.spec import Method
from tunesmith.training import examples as examples_module
from tunesmith.training.examples import micro_batches
from tunesmith.training.fitting import Division
from tunesmith.training.network import Network
from tunesmith.training.objective import evaluate
from tunesmith.training.rerank import Rerank
from unit.training.ranking import asked, gradients, learn, ranking_rows, read_rows

if TYPE_CHECKING:
    from pathlib import Path

    from unit.training.conftest import Bench


def load(folder: Path) -> Any:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1).eval()


def by_hand(model: Any, folder: Path, rows: list[dict[str, Any]]) -> torch.Tensor:
    """Mean loss over the rows that have a negative, of groups of 3, fp64 with its gradient."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    losses = []
    for row in rows:
        others = (row["neg"] * 2)[:2]
        if others:
            scores = [
                model(**tokenizer(row["query"], passage, return_tensors="pt")).logits[0, 0]
                for passage in (row["pos"][0], *others)
            ]
            losses.append(-torch.log_softmax(torch.stack(scores).double(), dim=0)[0])
    return torch.stack(losses).mean()


@pytest.mark.parametrize("budget", [1, 200, 10**6])
def test_loss_and_gradients_are_those_written_out_whatever_the_micro_batches(
    bench: Bench, bert_folder: Path, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    examples = read_rows(bench, ranking_rows(7), asked(bert_folder, Method.RERANK))
    model, reference = load(bert_folder), load(bert_folder).double()
    expected = by_hand(reference, bert_folder, ranking_rows(7))
    torch.autograd.backward(expected)
    monkeypatch.setattr(examples_module, "MICRO_BATCH_TOKENS", budget)

    batches = list(micro_batches(examples, examples.all))
    loss = learn(Rerank(), Network(model), batches, seed=1)

    assert loss == pytest.approx(expected.item(), rel=1e-5)
    found, wanted = gradients(model), gradients(reference)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-6), name


def test_a_model_that_tells_nothing_apart_gets_nothing_right(
    bench: Bench, bert_folder: Path
) -> None:
    examples = read_rows(bench, ranking_rows(7), asked(bert_folder, Method.RERANK))
    model = load(bert_folder)
    torch.nn.init.zeros_(model.classifier.weight)

    score = evaluate(Rerank(), Network(model), batches=Division(examples, examples.all)).mean

    assert score.loss == pytest.approx(math.log(3))
    assert score.accuracy == 0
    assert score.further["mrr"] == pytest.approx(1 / 3)


def test_a_row_without_a_passage_to_compare_with_is_set_aside_and_the_receipt_says_why(
    bench: Bench, bert_folder: Path
) -> None:
    bench.write_spec(ranking_rows(7), n_epochs=1, **asked(bert_folder, Method.RERANK))

    assert bench.train().error is None

    receipt = bench.artifacts.get(f"{bench.run.prefix}/receipt.jsonl").decode()
    assert receipt.count('"no_negatives"') == 1
    assert "Line 5: no passage is given that does not answer" in receipt


def test_a_run_tells_the_losses_of_what_it_hands_out(bench: Bench, bert_folder: Path) -> None:
    rows = ranking_rows(12)
    fields = asked(bert_folder, Method.RERANK, lora=None)
    valid = bench.upload("valid", ranking_rows(7))
    bench.write_spec(rows, validation_file=valid, n_epochs=6, learning_rate=1e-3, **fields)

    assert bench.train().error is None

    tuned = AutoModelForSequenceClassification.from_pretrained(bench.output).eval()
    last = bench.metrics()[-1]
    expected = by_hand(tuned, bert_folder, ranking_rows(7)).item()
    assert last.valid_loss == pytest.approx(expected, abs=1e-5)
    assert last.valid_loss is not None
    assert last.valid_loss < math.log(3) - 0.05
    assert last.valid_mrr is not None
    assert last.valid_mrr > 0.6
