"""Packed texts in an encoder: each token sees its own text, and padding is nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, RobertaConfig, RobertaModel

from tunesmith.domain.spec import Method
from tunesmith.training.embedding import Embedding
from tunesmith.training.encoders import pack_encoder
from tunesmith.training.examples import MicroBatch, micro_batch_of, micro_batches
from tunesmith.training.network import Network
from tunesmith.training.packed import NotPackableError
from unit.training.ranking import asked, ranking_rows, read_rows

if TYPE_CHECKING:
    from pathlib import Path

    from unit.training.conftest import Bench

LENGTHS = (5, 17, 2, 9, 16, 33)
"""Of several powers of two, none in order."""


def texts() -> list[torch.Tensor]:
    drawn = torch.Generator().manual_seed(1)
    return [torch.randint(5, 90, (length,), generator=drawn) for length in LENGTHS]


def packed(folder: Path) -> Network:
    return pack_encoder(AutoModel.from_pretrained(folder), torch.float32)


def gradients(network: Network, batch: MicroBatch) -> dict[str, torch.Tensor]:
    states = network.hidden_states(batch)
    torch.autograd.backward((states * torch.linspace(-1, 1, states.shape[1])).pow(2).sum())
    named = network.model.named_parameters()
    return {name: weight.grad for name, weight in named if weight.grad is not None}


def test_states_and_gradients_are_those_of_padded_texts(bert_folder: Path) -> None:
    padded, batch = Network(AutoModel.from_pretrained(bert_folder).eval()), micro_batch_of(texts())
    together = packed(bert_folder)
    together.model.eval()

    assert torch.allclose(
        together.hidden_states(batch), padded.hidden_states(batch), rtol=0, atol=1e-5
    )
    found, wanted = gradients(together, batch), gradients(padded, batch)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-4), name


def test_a_text_is_the_same_bit_for_bit_whatever_its_neighbours_say(bert_folder: Path) -> None:
    network = packed(bert_folder)
    network.model.eval()
    said, other = texts(), texts()
    other[0] = other[0] + 1

    with torch.no_grad():
        one, two = (network.hidden_states(micro_batch_of(some)) for some in (said, other))

    assert torch.equal(one[LENGTHS[0] :], two[LENGTHS[0] :])
    assert not torch.allclose(one[: LENGTHS[0]], two[: LENGTHS[0]])


def test_attention_drops_what_the_model_says_while_it_learns(bert_folder: Path) -> None:
    network, batch = packed(bert_folder), micro_batch_of(texts())
    for name, module in network.model.named_modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5 if name.endswith("self.dropout") else 0.0

    with torch.no_grad():
        network.model.eval()
        still = network.hidden_states(batch)
        network.model.train()
        torch.manual_seed(1)
        dropped = network.hidden_states(batch)
        torch.manual_seed(1)
        again = network.hidden_states(batch)

    assert not torch.allclose(still, dropped, atol=1e-3)
    assert torch.equal(dropped, again)


def test_a_model_whose_tokens_see_only_those_before_is_not_used_so(base_folder: Path) -> None:
    with pytest.raises(NotPackableError, match="does not see all others"):
        packed(base_folder)


def test_a_model_that_counts_places_otherwise_is_not_used_so() -> None:
    shape: dict[str, Any] = {
        "vocab_size": 99,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    with pytest.raises(NotPackableError, match="differ by"):
        pack_encoder(RobertaModel(RobertaConfig(**shape)).eval(), torch.float32)


def test_padding_does_not_count_where_there_is_none(bench: Bench, bert_folder: Path) -> None:
    fields = asked(bert_folder, Method.EMBEDDING)
    examples = read_rows(bench, ranking_rows(9), fields)
    sizes = (examples.ends - examples.starts).sum(axis=1)
    most = int(sizes.sum()) // 2

    batches = list(micro_batches(examples, examples.all, most=most, padding=None))

    assert sorted(np.concatenate([batch.examples for batch in batches])) == list(examples.all)
    assert all(batch.tokens <= most for batch in batches)
    assert len(batches) < len(list(micro_batches(examples, examples.all, most=most)))


@pytest.mark.parametrize(("most", "passes"), [(10**6, 1), (100, 2)])
def test_a_batch_that_fits_goes_through_once_and_any_other_twice(
    bench: Bench, bert_folder: Path, most: int, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = asked(bert_folder, Method.EMBEDDING)
    examples = read_rows(bench, ranking_rows(6), fields)
    batches = list(micro_batches(examples, examples.all, most=most, padding=None))
    network = packed(bert_folder)
    seen: list[MicroBatch] = []
    through = network.hidden_states

    def noted(batch: MicroBatch) -> torch.Tensor:
        seen.append(batch)
        return through(batch)

    monkeypatch.setattr(network, "hidden_states", noted)

    whole = Embedding(fields["ranking"], 6).whole(network, batches)
    for batch in batches:
        torch.autograd.backward(whole.measure(network, batch).loss)

    assert len(seen) == passes * len(batches)
