"""Feed-forward blocks: of what stands between their two products, only the first one is kept.

The widest states of a model stand there. Left to autograd, several of them are kept in fp32, and
each operation is one more pass over memory. Here they are worked out anew in the backward pass: by
kernels in one go, or else some tokens at a time, which stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tunesmith.training.kernels import LANES, Kernels, Results
from tunesmith.training.products import SharedProduct
from tunesmith.training.room import Use, room

_SAMPLE = 4
"""Tokens on which a block is compared with what takes its place."""
_SAME = 0.01
"""Largest difference of both, relative: in bf16, what lies between may be rounded otherwise."""


def replace_feed_forwards(
    model: nn.Module, products: Sequence[SharedProduct], *, at_once: int
) -> None:
    """Let each module of `model` that is a feed-forward block, and nothing else, be computed here.

    Such a block has two of the `products` and an activation. Whether it is one is told by what it
    makes of a sample. `at_once` numbers are worked on together; some of their like stand beside.
    """
    shared_by = {id(part.called): shared for shared in products for part in shared.parts}
    for module in model.modules():
        children = list(module.children())
        found = dict.fromkeys(shared_by[id(one)] for one in children if id(one) in shared_by)
        known = set(map(id, children))
        # A layer that is called within another one (an adapter with dropout) does more than this.
        if len(found) == 2 and all(id(part.called) in known for one in found for part in one.parts):
            first, last = found
            others = [one for one in children if id(one) not in shared_by]
            _replace(module, [FeedForward(first, last, each, at_once) for each in others])


def _replace(module: nn.Module, candidates: Sequence[FeedForward]) -> None:
    for candidate in candidates:
        if candidate.fits and candidate.does(module):
            module.forward = candidate
            break


@dataclass(frozen=True, eq=False)
class FeedForward:
    """down(act(x)), or down(act(gate) up) where the first product gives both, the gate first.

    The latter: Shazeer 2020, arXiv:2002.05202, equation 6.
    """

    first: SharedProduct
    """What the input is multiplied by."""
    last: SharedProduct
    """What makes the output."""
    activation: Callable[[torch.Tensor], torch.Tensor]
    """What is taken of each number between both, or of the gate's."""

    at_once: int
    """Numbers that are worked on together."""

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """Return what the block makes of `states`, (..., width): the same shape, fp32."""
        made: torch.Tensor = _Through.apply(  # type: ignore[no-untyped-call]
            states.reshape(-1, states.shape[-1]), self, *self.first.trained, *self.last.trained
        )
        return made.view(*states.shape[:-1], -1)

    @property
    def width(self) -> int:
        """Numbers of a token that the last product takes."""
        return self.last.shape[1]

    @cached_property
    def kernels(self) -> Kernels | None:
        """What does all between both products in one go; `None` where torch does."""
        width, gated = self.width, self.first.outputs == 2 * self.width
        apart = all(each in {width, 2 * width} for each in self.first.widths)
        known = apart and (self.gelu or self._activates_as(functional.silu))
        return self.first.kernels if gated and known and width % LANES == 0 else None

    @cached_property
    def gelu(self) -> bool:
        """Whether the activation is gelu as tanh comes near it, which kernels know beside silu."""
        return self._activates_as(partial(functional.gelu, approximate="tanh"))

    def _activates_as(self, known: Callable[[torch.Tensor], torch.Tensor]) -> bool:
        sample = torch.linspace(-8.0, 8.0, 64)
        return torch.allclose(self.activation(sample), known(sample), atol=1e-6)

    def gate_and_up(self, product: torch.Tensor) -> tuple[Results, Results]:
        """Return what the first product has made for both."""
        width = self.width
        both = slice(0, width), slice(width, 2 * width)
        gate, up = (self.first.results(product, some) for some in both)
        return gate, up

    @property
    def fits(self) -> bool:
        """Whether the last product takes what the first gives, or half of it."""
        return self.first.outputs in {self.width, 2 * self.width}

    def does(self, module: nn.Module) -> bool:
        """Tell whether `module` gives the same."""
        drawn = torch.Generator().manual_seed(0)
        sample = torch.randn(1, _SAMPLE, self.first.shape[1], generator=drawn)
        sample = sample.to(self.first.device)
        try:
            theirs, ours = module(sample), self(sample)
        except (TypeError, ValueError, RuntimeError):
            return False
        return float((theirs - ours).norm()) <= _SAME * float(theirs.norm())

    def some(self, tokens: int) -> Iterator[slice]:
        """Yield slices of so many tokens, those that are worked on together."""
        step = max(self.at_once // self.first.outputs, 1)
        for begin in range(0, tokens, step):
            yield slice(begin, min(begin + step, tokens))

    def complete(self, product: torch.Tensor) -> torch.Tensor:
        """Return what the first layers give, (tokens, outputs), fp32, for a moment."""
        size = len(product), self.first.outputs
        made = room(Use.COMPLETE, *size, dtype=torch.float32, device=product.device)
        return self.first.complete(product, made)

    def activate(self, made: torch.Tensor, between: torch.Tensor) -> None:
        """Write to `between`, (tokens, `width`), what the last product takes."""
        gate, up = made[:, : self.width], made[:, self.width :]
        active = self.activation(gate)
        between.copy_(active.mul_(up) if up.numel() else active)

    def activate_back(
        self, made: torch.Tensor, between: torch.Tensor, *, gradient: torch.Tensor
    ) -> None:
        """Do as `activate`; and put the gradient of `made` where that of `between`, fp32, stands.

        `gradient` is (tokens, `width`); that of `made` is written to `made` itself.
        """
        gate, up = made[:, : self.width], made[:, self.width :]
        with torch.enable_grad():
            leaf = gate.detach().requires_grad_()
            active = self.activation(leaf)
        plain = active.detach()
        if up.numel():
            torch.mul(plain, up, out=between)
            (found,) = torch.autograd.grad(active, leaf, gradient * up)
            torch.mul(plain, gradient, out=up)
        else:
            between.copy_(plain)
            (found,) = torch.autograd.grad(active, leaf, gradient)
        gate.copy_(found)


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> torch.Tensor:
        states: torch.Tensor = given[0]
        block: FeedForward = given[1]
        first, last = block.first, block.last
        taken = states.to(first.dtype)
        product = taken.new_empty(len(taken), first.shape[0])
        first.multiply(taken, product)
        between = last.room(Use.BETWEEN, len(taken), block.width)
        if block.kernels is not None:
            block.kernels.gated(*block.gate_and_up(product), gelu=block.gelu, between=between)
        else:
            for some in block.some(len(taken)):
                block.activate(block.complete(product[some]), between[some])
        second = last.room(Use.PRODUCT, len(taken), last.shape[0])
        last.multiply(between, second)
        made = last.complete(second, taken.new_empty(len(taken), last.outputs, dtype=torch.float32))
        ctx.save_for_backward(taken, product, second[:, last.outputs :].clone())
        ctx.block = block
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        taken, product, inner = ctx.saved_tensors
        block: FeedForward = ctx.block
        first, last = block.first, block.last
        last.room_for_gradient(len(taken)).copy_(gradients[0])
        behind = last.back(inner, states=True)
        assert behind.states is not None  # noqa: S101
        between = last.room(Use.BETWEEN, len(taken), block.width)
        outputs = first.room_for_gradient(len(taken))
        if block.kernels is not None:
            block.kernels.gated_back(
                *block.gate_and_up(product),
                gelu=block.gelu,
                between=between,
                gradient=behind.states,
                into=outputs,
            )
        else:
            for some in block.some(len(taken)):
                made = block.complete(product[some])
                block.activate_back(made, between[some], gradient=behind.states[some].float())
                outputs[some] = made
        factors = last.of_factors(behind, between)
        before = first.back(product[:, first.outputs :], states=ctx.needs_input_grad[0])
        states = None if before.states is None else before.states.to(torch.float32, copy=True)
        return (states, None, *first.of_factors(before, taken), *factors)
