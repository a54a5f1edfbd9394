"""Frozen linear layers and their adapters: products in the run's precision, sums in fp32.

In bf16, a frozen layer's result and the adapter's small contribution must not be summed in bf16:
the contribution would be rounded away. So layers take and give fp32, and only the products' factors
are bf16. Layers that take the same input (query, key and value; gate and up) are one product, and
so are the frozen weights and the adapter's first factors (Hu et al. 2021, arXiv:2106.09685).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import nn
from transformers.pytorch_utils import Conv1D

from tunesmith.models.quantization import dequantize, is_quantized
from tunesmith.training.kernels import LANES, Results, kernels, paired
from tunesmith.training.room import Use, room

ADAPTER = "default"
"""The name that `peft` gives the only adapter."""


@dataclass(frozen=True)
class Part:
    """One linear layer among those that share a product."""

    frozen: nn.Linear | Conv1D
    """The layer itself, `Linear` or GPT-2's `Conv1D`."""
    adapter: LoraLayer | None
    """What `peft` has put around it; `None` where it has no adapter."""

    @property
    def called(self) -> nn.Module:
        """The module that the model calls."""
        return self.frozen if self.adapter is None else self.adapter

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        if isinstance(self.frozen, Conv1D):
            inputs, outputs = self.frozen.weight.shape
            return outputs, inputs
        return self.frozen.out_features, self.frozen.in_features

    @property
    def quantized(self) -> bool:
        """Whether the frozen weights take 4 bits."""
        return is_quantized(self.frozen)

    def write(self, rows: torch.Tensor) -> None:
        """Write the frozen weights to `rows`, (outputs, inputs)."""
        if self.quantized:
            dequantize(self.frozen, rows)
        else:
            weight = self.frozen.weight.data
            rows.copy_(weight.t() if isinstance(self.frozen, Conv1D) else weight)


@dataclass(frozen=True)
class _Factors:
    """An adapter among the layers of one product."""

    first: nn.Parameter
    """(rank, inputs)."""
    second: nn.Parameter
    """(outputs, rank)."""
    scale: float
    """What their product is multiplied by."""
    ranks: slice
    """Its inner dimensions among those of all."""
    outputs: slice
    """Its outputs among those of all."""


@dataclass(frozen=True)
class Back:
    """What is known of a product's gradients before its input is looked at."""

    states: torch.Tensor | None
    """Gradient of the input, (tokens, inputs), which holds until the next; `None` if not wanted."""
    ranks: torch.Tensor
    """Gradient of what the first factors make, (tokens, ranks)."""
    seconds: list[torch.Tensor]
    """Gradient of the second factor of each adapter, (outputs, rank), fp32."""


class SharedProduct:
    """Layers that take the same input. It stands in for the `forward` of each."""

    def __init__(self, parts: Sequence[Part], dtype: torch.dtype) -> None:
        """Multiply in `dtype` for `parts` from now on.

        Their frozen weights become parts of one matrix, which takes the place of theirs; but where
        they are quantized they stay, and that matrix is made for each product anew.
        """
        self.parts = tuple(parts)
        """The layers, in the order of their outputs."""
        self.widths = [part.shape[0] for part in parts]
        """Outputs of each layer."""
        self.adapters = tuple(_factors(self.parts, self.widths))
        """The adapters of the layers that have one."""
        self.trained = [factor for one in self.adapters for factor in (one.first, one.second)]
        """Their factors, in the order in which `of_factors` returns the gradients."""
        self.outputs = sum(self.widths)
        """Outputs of all layers together."""
        self.dtype = dtype
        """Precision of the products."""
        self.device = self.parts[0].frozen.weight.device
        """Where they are taken."""
        even = all(width % LANES == 0 for width in self.widths)
        even = even and all(one.second.shape[1] % 2 == 0 for one in self.adapters)
        self.kernels = kernels(dtype, self.device) if even else None
        """What completes products in one go; `None` where torch does."""
        ranks = self.adapters[-1].ranks.stop if self.adapters else 0
        self.shape = (self.outputs + ranks, self.parts[0].shape[1])
        """All that the input is multiplied by: frozen weights and below them first factors."""
        quantized = any(part.quantized for part in self.parts)
        self._kept = None if quantized else self._keep()
        self._bias = self._biases()
        self._ready: dict[int, torch.Tensor] = {}
        self._states: torch.Tensor | None = None
        for number, part in enumerate(self.parts):
            part.called.forward = partial(self._forward, number)

    def room(self, use: Use, *shape: int) -> torch.Tensor:
        """Return room for `use` of the products' precision, where they are taken."""
        return room(use, *shape, dtype=self.dtype, device=self.device)

    def forget(self) -> None:
        """Give back what a pass that broke off has left here, and so that pass's whole graph."""
        self._ready, self._states = {}, None

    def multiply(self, taken: torch.Tensor, product: torch.Tensor) -> None:
        """Write to `product`, (tokens, `shape[0]`), what becomes of `taken`, (tokens, inputs).

        Both are of `dtype`. The frozen layers' results come first, without biases, then what the
        adapters' first factors make.
        """
        torch.mm(taken, self._matrix().t(), out=product)

    def complete(self, product: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
        """Write to `made`, (tokens, outputs), fp32, what the layers give, and return it.

        `product` is what `multiply` has written, or some rows of it.
        """
        if self.kernels is not None:
            for outputs in _slices(self.widths):
                self.kernels.complete(self.results(product, outputs), into=made[:, outputs])
            return made
        made.copy_(product[:, : self.outputs])
        if self._bias is not None:
            made += self._bias
        inner = product[:, self.outputs :].float()
        for one in self.adapters:
            made[:, one.outputs].addmm_(
                inner[:, one.ranks], one.second.detach().t(), alpha=one.scale
            )
        return made

    def results(self, product: torch.Tensor, some: slice) -> Results:
        """Return `some` outputs of one layer, as `multiply` has written them to `product`."""
        inner = second = None
        for one in self.adapters:
            if one.outputs.start <= some.start < one.outputs.stop:
                rows = slice(some.start - one.outputs.start, some.stop - one.outputs.start)
                inner = product[:, self.outputs :][:, one.ranks]
                second = paired(one.second.detach()[rows], one.scale)
        bias = None if self._bias is None else self._bias[some]
        return Results(product[:, some], inner, second, bias)

    def room_for_gradient(self, tokens: int) -> torch.Tensor:
        """Return where the gradient of the outputs is written, (tokens, outputs), of `dtype`.

        It holds until the next such call, whose ever it is.
        """
        return self._whole_room(tokens)[:, : self.outputs]

    def back(self, inner: torch.Tensor, *, states: bool) -> Back:
        """Carry back the gradient in `room_for_gradient`; `states` tells whether to the input too.

        `inner`, (tokens, ranks), is what the first factors made of the input.
        """
        whole = self._whole_room(len(inner))
        outputs, ranks = whole[:, : self.outputs], whole[:, self.outputs :]
        seconds = []
        for one in self.adapters:
            mine, second = outputs[:, one.outputs], one.second.detach() * one.scale
            # (outputs, rank) by way of (rank, outputs), which is quicker to multiply.
            found = (inner[:, one.ranks].t() @ mine).t()
            found = found.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
            seconds.append(found.mul_(one.scale))
            # The adapters' part of the gradient is summed within the frozen layers' own product.
            torch.mm(mine, second.to(self.dtype), out=ranks[:, one.ranks])
        into = None
        if states:
            into = self.room(Use.STATES, len(inner), self.shape[1])
            torch.mm(whole, self._matrix(), out=into)
        return Back(into, ranks.clone(), seconds)

    def of_factors(self, back: Back, taken: torch.Tensor) -> list[torch.Tensor]:
        """Return the gradients of what is `trained`; `taken` is what was multiplied."""
        firsts = (back.ranks.t() @ taken).float()
        return [
            gradient
            for one, second in zip(self.adapters, back.seconds, strict=True)
            for gradient in (firsts[one.ranks], second)
        ]

    def _forward(self, number: int, states: torch.Tensor) -> torch.Tensor:
        """Return what the layer `number` makes of `states`; at the first call all are made."""
        if states is not self._states or number not in self._ready:
            made = _Product.apply(  # type: ignore[no-untyped-call]
                states.reshape(-1, states.shape[-1]), self, *self.trained
            )
            self._ready = {
                number: each.view(*states.shape[:-1], -1) for number, each in enumerate(made)
            }
        result = self._ready.pop(number)
        self._states = states if self._ready else None
        return result

    def _whole_room(self, tokens: int) -> torch.Tensor:
        return self.room(Use.GRADIENT, tokens, self.shape[0])

    def _matrix(self) -> torch.Tensor:
        """Return what the input is multiplied by, of `shape`.

        Where frozen weights are quantized, it holds until the next such call, whose ever it is.
        """
        matrix = self._kept
        if matrix is None:
            matrix = self.room(Use.MATRIX, *self.shape)
            self._write(matrix)
        for one in self.adapters:
            matrix[self.outputs :][one.ranks] = one.first.detach()
        return matrix

    def _keep(self) -> torch.Tensor:
        kept = torch.empty(self.shape, dtype=self.dtype, device=self.device)
        self._write(kept)
        for part, rows in zip(self.parts, _slices(self.widths), strict=True):
            held = kept[rows]
            part.frozen.weight.data = held.t() if isinstance(part.frozen, Conv1D) else held
        return kept

    def _write(self, matrix: torch.Tensor) -> None:
        for part, rows in zip(self.parts, _slices(self.widths), strict=True):
            part.write(matrix[rows])

    def _biases(self) -> torch.Tensor | None:
        """Return the frozen biases, (outputs,), fp32; `None` where no layer has any."""
        biases = [part.frozen.bias for part in self.parts]
        if all(bias is None for bias in biases):
            return None
        known = zip(biases, self.widths, strict=True)
        return torch.cat(
            [
                torch.zeros(width, device=self.device) if bias is None else bias.data.float()
                for bias, width in known
            ]
        )


class _Product(torch.autograd.Function):
    """x W' + b + s (x A') B', of each layer that shares x."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[torch.Tensor, ...]:
        states, shared = given[:2]
        taken = states.to(shared.dtype)
        product = shared.room(Use.PRODUCT, len(taken), shared.shape[0])
        shared.multiply(taken, product)
        made: torch.Tensor = shared.complete(
            product, taken.new_empty(len(taken), shared.outputs, dtype=torch.float32)
        )
        ctx.save_for_backward(taken, product[:, shared.outputs :].clone())
        ctx.shared = shared
        return torch.split(made, shared.widths, dim=-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        taken, inner = ctx.saved_tensors
        shared: SharedProduct = ctx.shared
        outputs = shared.room_for_gradient(len(taken))
        for into, gradient in zip(
            torch.split(outputs, shared.widths, dim=-1), gradients, strict=True
        ):
            into.copy_(gradient)
        back = shared.back(inner, states=ctx.needs_input_grad[0])
        states = None if back.states is None else back.states.to(torch.float32, copy=True)
        return (states, None, *shared.of_factors(back, taken))


def _factors(parts: Sequence[Part], widths: Sequence[int]) -> Iterator[_Factors]:
    at = 0
    for part, outputs in zip(parts, _slices(widths), strict=True):
        if part.adapter is not None:
            first, second = (
                factors[ADAPTER].weight for factors in (part.adapter.lora_A, part.adapter.lora_B)
            )
            ranks = slice(at, at + len(first))
            at = ranks.stop
            yield _Factors(first, second, part.adapter.scaling[ADAPTER], ranks, outputs)


def _slices(widths: Sequence[int]) -> list[slice]:
    return [slice(end - width, end) for width, end in zip(widths, accumulate(widths), strict=True)]
