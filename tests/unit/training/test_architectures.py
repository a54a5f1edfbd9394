"""One path serves every architecture: packed texts, adapters and resumption, on random models."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
from transformers.models.llama import modeling_llama

from models.families import FAMILIES, adapted
from tunesmith.domain.models import CatalogueEntry, FolderSource
from tunesmith.training.examples import MicroBatch, micro_batch_of
from tunesmith.training.network import Network
from tunesmith.training.packed import NotPackableError, pack

if TYPE_CHECKING:
    from unit.training.conftest import Bench, Rows

PADDED = {"gemma2": "soft cap"}
"""What cannot be packed, and a part of the reason."""
PACKED = [name for name in FAMILIES if name not in PADDED]
LENGTHS = (19, 3, 11, 1, 19)


def with_adapter(folder: Path) -> PeftModel:
    return adapted(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))


def texts() -> list[torch.Tensor]:
    drawn = torch.Generator().manual_seed(3)
    return [torch.randint(200, (length,), generator=drawn) for length in LENGTHS]


def losses(network: Network, batch: MicroBatch) -> torch.Tensor:
    return network.losses(batch, batch.learn.nonzero().squeeze(1))[0]


def gradients(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([w.grad.flatten() for w in model.parameters() if w.grad is not None])


@pytest.mark.parametrize("name", PACKED)
def test_packed_texts_have_the_losses_and_gradients_of_each_text_alone(
    name: str, folder_of: Callable[[str], Path]
) -> None:
    plain, packed = with_adapter(folder_of(name)), with_adapter(folder_of(name))
    network = pack(packed, torch.float32)

    together = losses(network, micro_batch_of(texts()))
    torch.autograd.backward(together.sum())
    alone = [losses(Network(plain), micro_batch_of([text])) for text in texts() if len(text) > 1]
    torch.autograd.backward(torch.cat(alone).sum())

    assert network.packed is torch.float32
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
    assert torch.allclose(gradients(packed), gradients(plain), atol=1e-4, rtol=1e-4)


def test_a_pass_that_breaks_off_between_layers_holds_no_memory(
    folder_of: Callable[[str], Path],
) -> None:
    model = with_adapter(folder_of("llama"))
    network, held = pack(model, torch.float32), []

    def break_off(_: torch.nn.Module, inputs: tuple[torch.Tensor], __: torch.Tensor) -> None:
        held.append(weakref.ref(inputs[0]))
        raise MemoryError

    query = next(part for name, part in model.named_modules() if name.endswith("q_proj"))
    with query.register_forward_hook(break_off), pytest.raises(MemoryError):
        network.hidden_states(micro_batch_of(texts()))
    network.forget()
    gc.collect()

    assert [one() for one in held] == [None]


@pytest.mark.parametrize("name", PACKED)
def test_a_text_is_the_same_bit_for_bit_whatever_its_neighbour_says(
    name: str, folder_of: Callable[[str], Path]
) -> None:
    network = pack(with_adapter(folder_of(name)), torch.float32)
    said, other = texts(), texts()
    other[0] = (other[0] + 1) % 200
    first = LENGTHS[0]

    with torch.no_grad():
        one, two = (network.hidden_states(micro_batch_of(some)) for some in (said, other))

    assert torch.equal(one[first:], two[first:])
    assert not torch.allclose(one[:first], two[:first])


@pytest.mark.parametrize("name", PACKED)
def test_in_bf16_the_packed_losses_stay_near_those_in_fp32(
    name: str, folder_of: Callable[[str], Path]
) -> None:
    exact = losses(pack(with_adapter(folder_of(name)), torch.float32), micro_batch_of(texts()))
    model = AutoModelForCausalLM.from_pretrained(folder_of(name), dtype=torch.bfloat16)
    reduced = with_adapter(folder_of(name))
    reduced.get_base_model().to(model.dtype)
    for key, weight in reduced.named_parameters():
        if "lora_" in key:
            weight.data = weight.data.float()

    rounded = losses(pack(reduced, torch.bfloat16), micro_batch_of(texts()))

    assert rounded.dtype == torch.float32
    assert float((rounded - exact).abs().mean()) < 0.05
    assert float((rounded.mean() - exact.mean()).abs()) < 0.02


@pytest.mark.parametrize(("name", "why"), PADDED.items())
def test_what_cannot_be_packed_says_why(
    name: str, why: str, folder_of: Callable[[str], Path]
) -> None:
    with pytest.raises(NotPackableError, match=why):
        pack(with_adapter(folder_of(name)), torch.float32)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_killed_run_goes_on_to_the_same_adapter_which_plain_peft_loads(
    name: str,
    folder_of: Callable[[str], Path],
    new_bench: Callable[[str], Bench],
    rows: Callable[[int], Rows],
) -> None:
    entry = CatalogueEntry(name=name, source=FolderSource(path=folder_of(name)))
    whole, killed = new_bench("whole"), new_bench("killed")
    for bench in (whole, killed):
        bench.write_spec(rows(8), base_model=entry, checkpoint_every=1, n_epochs=2)
    whole.train()
    killed.train_until(b"Step 3")
    killed.train(2)

    base = AutoModelForCausalLM.from_pretrained(folder_of(name))
    loaded = PeftModel.from_pretrained(base, whole.output)

    assert killed.adapter() == whole.adapter()
    assert any("Texts are padded" in said for said in whole.messages()) == (name in PADDED)
    assert whole.metrics()[-1].train_loss < whole.metrics()[0].train_loss
    assert any(w.abs().sum() > 0 for n, w in loaded.named_parameters() if "lora_B" in n)


@pytest.mark.parametrize("name", PACKED)
def test_texts_that_begin_alike_have_the_losses_and_gradients_of_each_text_alone(
    name: str, folder_of: Callable[[str], Path]
) -> None:
    plain, packed = with_adapter(folder_of(name)), with_adapter(folder_of(name))
    network = pack(packed, torch.float32)

    together = losses(network, micro_batch_of(alike()))
    torch.autograd.backward(together.sum())
    alone = [losses(Network(plain), micro_batch_of([text])) for text in alike() if len(text) > 1]
    torch.autograd.backward(torch.cat(alone).sum())

    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
    assert torch.allclose(gradients(packed), gradients(plain), atol=1e-4, rtol=1e-4)


def test_what_texts_begin_with_alike_goes_through_the_model_once(
    folder_of: Callable[[str], Path],
) -> None:
    model, seen = with_adapter(folder_of("llama")), list[int]()
    network = pack(model, torch.float32)
    embeddings = model.get_base_model().get_input_embeddings()

    with embeddings.register_forward_hook(lambda _, given, __: seen.append(given[0].numel())):
        states = network.hidden_states(micro_batch_of(alike()))

    assert seen == [len({tuple(text[: at + 1]) for text in spelt() for at in range(len(text))})]
    assert len(states) == sum(map(len, alike()))


def test_under_dropout_each_text_goes_through_the_model_by_itself(
    folder_of: Callable[[str], Path],
) -> None:
    model = with_adapter(folder_of("llama"))
    model.get_base_model().model.layers[0].mlp.dropout = torch.nn.Dropout(0.1)
    network, seen = pack(model, torch.float32), list[int]()
    embeddings = model.get_base_model().get_input_embeddings()

    with embeddings.register_forward_hook(lambda _, given, __: seen.append(given[0].numel())):
        network.hidden_states(micro_batch_of(alike()))

    assert seen == [sum(map(len, alike()))]


def alike() -> list[torch.Tensor]:
    """Texts of which some begin alike, one is all of another's beginning, and two are the same."""
    drawn = texts()
    instruction, prompt = drawn[0][:9], drawn[2][:6]
    return [
        torch.cat([instruction, prompt, drawn[4][:5]]),
        torch.cat([instruction, drawn[4][7:19]]),
        drawn[2],
        torch.cat([instruction, prompt, drawn[4][11:14]]),
        instruction,
        drawn[2].clone(),
    ]


def spelt() -> list[list[int]]:
    return [text.tolist() for text in alike()]


def test_a_model_that_cannot_be_packed_turns_by_its_own_code_again(
    folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = modeling_llama.apply_rotary_pos_emb
    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", own)
    monkeypatch.setattr(
        "tunesmith.training.packed.check_same", Mock(side_effect=NotPackableError("it differs"))
    )
    with pytest.raises(NotPackableError):
        pack(with_adapter(folder_of("llama")), torch.float32)
    assert modeling_llama.apply_rotary_pos_emb is own


def test_heads_behind_their_tokens_are_turned_too(folder_of: Callable[[str], Path]) -> None:
    original = modeling_llama.apply_rotary_pos_emb
    try:
        pack(with_adapter(folder_of("llama")), torch.bfloat16)
        query, key = torch.randn(1, 5, 64, 32), torch.randn(1, 5, 2, 32)
        angles = torch.randn(1, 5, 16).repeat(1, 1, 2)
        given = query, key, angles.cos(), angles.sin()
        found = modeling_llama.apply_rotary_pos_emb(*given, unsqueeze_dim=2)
    finally:
        modeling_llama.apply_rotary_pos_emb = original
    low, high = query.chunk(2, dim=-1)
    wanted = (
        query * angles.cos()[:, :, None] + torch.cat([-high, low], -1) * angles.sin()[:, :, None]
    )
    assert torch.allclose(found[0], wanted, atol=1e-6)
