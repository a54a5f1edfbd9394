"""Feed-forward blocks are found in every architecture that has them, and keep one product alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from models.families import adapted
from tunesmith.training.examples import micro_batch_of
from tunesmith.training.feed_forward import FeedForward, replace_feed_forwards
from tunesmith.training.network import Network
from tunesmith.training.packed import pack
from tunesmith.training.pieces import CACHED
from tunesmith.training.products import Part, SharedProduct

WITH_BLOCKS = ("llama", "qwen2", "qwen3", "mistral", "gemma3", "phi", "phi3", "gpt2")
"""Families whose feed-forward block is a module of its own; OPT's is a part of its layer."""
WIDTH, BETWEEN, TOKENS = 24, 40, 1200
"""More tokens than are worked on together."""


class Block(torch.nn.Module):
    """A block whose gate is the first or, as in no model that is known here, the second factor."""

    def __init__(self, *, swapped: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate = torch.nn.Linear(WIDTH, BETWEEN)
        self.up = torch.nn.Linear(WIDTH, BETWEEN)
        self.down = torch.nn.Linear(BETWEEN, WIDTH)
        self.activation = torch.nn.GELU()
        self._swapped = swapped

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        one, other = self.gate(states), self.up(states)
        gate, up = (other, one) if self._swapped else (one, other)
        result: torch.Tensor = self.down(self.activation(gate) * up)
        return result


def replaced(block: Block) -> Block:
    """Freeze `block` and let it be computed as one, if it is found to be one."""
    block.requires_grad_(requires_grad=False)
    parts = [[Part(block.gate, None), Part(block.up, None)], [Part(block.down, None)]]
    with torch.no_grad():
        products = [SharedProduct(some, torch.float32) for some in parts]
        replace_feed_forwards(block, products, at_once=CACHED.numbers)
    return block


def states() -> torch.Tensor:
    drawn = torch.Generator().manual_seed(1)
    return torch.randn(1, TOKENS, WIDTH, generator=drawn).requires_grad_()


def kept(compute: Callable[[], Any]) -> int:
    """Return the bytes that autograd keeps for the backward pass of what is computed."""
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        held = compute()
    del held
    return sum(storages.values())


@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_each_layer_of_a_model_has_its_block_found(
    name: str, folder_of: Callable[[str], Path]
) -> None:
    model = adapted(AutoModelForCausalLM.from_pretrained(folder_of(name), dtype=torch.float32))
    network = pack(model, torch.float32)

    found = [module for module in model.modules() if isinstance(module.forward, FeedForward)]

    assert network.packed is torch.float32
    assert len(found) == model.config.num_hidden_layers


def test_a_block_and_its_gradient_are_those_of_its_own_code() -> None:
    own, ours = states(), states()
    plain, block = Block(), replaced(Block())
    drawn = torch.randn(1, TOKENS, WIDTH, generator=torch.Generator().manual_seed(2))

    wanted, made = plain(own), block(ours)
    torch.autograd.backward([wanted, made], [drawn, drawn])

    assert isinstance(block.forward, FeedForward)
    assert torch.allclose(made, wanted, atol=1e-6)
    assert own.grad is not None
    assert ours.grad is not None
    assert torch.allclose(ours.grad, own.grad, atol=1e-6)


def test_a_block_that_computes_something_else_is_left_as_it_is() -> None:
    block = replaced(Block(swapped=True))

    assert not isinstance(block.forward, FeedForward)


def test_a_block_with_an_adapter_around_one_of_its_layers_keeps_that_adapter(
    folder_of: Callable[[str], Path],
) -> None:
    frozen = AutoModelForCausalLM.from_pretrained(folder_of("llama"), dtype=torch.float32)
    config = LoraConfig(r=2, lora_dropout=0.1, target_modules=["gate_proj"])
    model = get_peft_model(frozen, config)

    pack(model, torch.float32)

    assert not any(isinstance(module.forward, FeedForward) for module in model.modules())


def test_a_block_keeps_its_input_and_its_first_product_for_the_backward_pass() -> None:
    plain, block = Block().requires_grad_(requires_grad=False), replaced(Block())

    ours = kept(lambda: block(states()))
    theirs = kept(lambda: plain(states()))

    assert ours <= TOKENS * (WIDTH + 2 * BETWEEN) * 4
    assert ours < theirs


def test_what_a_pass_has_kept_is_not_what_the_next_pass_writes(
    folder_of: Callable[[str], Path],
) -> None:
    model = adapted(AutoModelForCausalLM.from_pretrained(folder_of("llama"), dtype=torch.float32))
    network = pack(model, torch.float32)
    texts = [torch.arange(5, 14), torch.arange(30, 41)]

    def gradient(*between: torch.Tensor) -> torch.Tensor:
        loss = _loss(network, texts[0])
        for other in between:
            _loss(network, other)
        torch.autograd.backward(loss)
        found = torch.cat([w.grad.flatten() for w in model.parameters() if w.grad is not None])
        network.forget()
        return found

    assert torch.equal(gradient(), gradient(texts[1]))


def _loss(network: Network, text: torch.Tensor) -> torch.Tensor:
    batch = micro_batch_of([text])
    return network.losses(batch, batch.learn.nonzero().squeeze(1))[0].sum()
