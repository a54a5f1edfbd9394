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

from tunesmith.training.quantization import dequantize, is_quantized

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


class SharedProduct:
    """Layers that take the same input. It stands in for the `forward` of each."""

    def __init__(self, parts: Sequence[Part], dtype: torch.dtype) -> None:
        """Multiply in `dtype` for `parts` from now on.

        Their frozen weights become parts of one matrix, which takes the place of theirs; but where
        they are quantized they stay, and that matrix is made for each product anew.
        """
        self._parts = tuple(parts)
        self._widths = [part.shape[0] for part in parts]
        self.adapters = tuple(_factors(self._parts, self._widths))
        """The adapters of the layers that have one."""
        self.outputs = sum(self._widths)
        """Outputs of all layers together."""
        self.dtype = dtype
        """Precision of the products."""
        ranks = self.adapters[-1].ranks.stop if self.adapters else 0
        self.shape = (self.outputs + ranks, self._parts[0].shape[1])
        """All that the input is multiplied by: frozen weights and below them first factors."""
        quantized = any(part.quantized for part in self._parts)
        self._kept = None if quantized else self._keep()
        self.bias = self._biases()
        """The frozen biases, (outputs,), fp32; `None` where no layer has any."""
        self._ready: dict[int, torch.Tensor] = {}
        self._states: torch.Tensor | None = None
        for number, part in enumerate(self._parts):
            part.called.forward = partial(self._forward, number)

    def forget(self) -> None:
        """Give back what a pass that broke off has left here, and so that pass's whole graph."""
        self._ready, self._states = {}, None

    def matrix(self) -> torch.Tensor:
        """Return what the input is multiplied by, of `shape`.

        Where frozen weights are quantized, it holds until the next such call, whose ever it is.
        """
        matrix = self._kept
        if matrix is None:
            matrix = _ROOM.of(2, self.shape[0], columns=self.shape[1], dtype=self.dtype)
            self._write(matrix)
        for one in self.adapters:
            matrix[self.outputs :][one.ranks] = one.first.detach()
        return matrix

    def second_factors(self) -> torch.Tensor:
        """Return the second factors as one matrix, scaled, (outputs, ranks), fp32."""
        joined = torch.zeros(self.outputs, self.shape[0] - self.outputs)
        for one in self.adapters:
            joined[one.outputs, one.ranks] = one.second.detach() * one.scale
        return joined

    def _forward(self, number: int, states: torch.Tensor) -> torch.Tensor:
        """Return what the layer `number` makes of `states`; at the first call all are made."""
        if states is not self._states or number not in self._ready:
            factors = [factor for one in self.adapters for factor in (one.first, one.second)]
            made = _Product.apply(  # type: ignore[no-untyped-call]
                states.reshape(-1, states.shape[-1]), self, *factors
            )
            shaped = made.view(*states.shape[:-1], -1)
            self._ready = dict(enumerate(shaped.split(self._widths, dim=-1)))
        result = self._ready.pop(number)
        self._states = states if self._ready else None
        return result

    def _keep(self) -> torch.Tensor:
        kept = torch.empty(self.shape, dtype=self.dtype)
        self._write(kept)
        for part, rows in zip(self._parts, _slices(self._widths), strict=True):
            held = kept[rows]
            part.frozen.weight.data = held.t() if isinstance(part.frozen, Conv1D) else held
        return kept

    def _write(self, matrix: torch.Tensor) -> None:
        for part, rows in zip(self._parts, _slices(self._widths), strict=True):
            part.write(matrix[rows])

    def _biases(self) -> torch.Tensor | None:
        biases = [part.frozen.bias for part in self._parts]
        if all(bias is None for bias in biases):
            return None
        known = zip(biases, self._widths, strict=True)
        return torch.cat(
            [torch.zeros(width) if bias is None else bias.data.float() for bias, width in known]
        )


class _Room:
    """Memory for the results of products that are read at once, the same for all layers.

    Fresh memory would cost a good part of what the product does.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, torch.dtype], torch.Tensor] = {}

    def of(self, use: int, rows: int, *, columns: int, dtype: torch.dtype) -> torch.Tensor:
        """Return room for (rows, columns); it holds what was written until the next such `use`."""
        kept = self._kept.get((use, dtype))
        if kept is None or len(kept) < rows * columns:
            kept = self._kept[use, dtype] = torch.empty(rows * columns, dtype=dtype)
        return kept[: rows * columns].view(rows, columns)


_ROOM = _Room()


class _Product(torch.autograd.Function):
    """x W' + b + s (x A') B', of all layers and adapters that share x."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> torch.Tensor:
        states, shared, *_ = given
        taken = states.to(shared.dtype)
        product = _ROOM.of(0, len(taken), columns=shared.shape[0], dtype=taken.dtype)
        torch.mm(taken, shared.matrix().t(), out=product)
        made = product[:, : shared.outputs].to(torch.float32, copy=True)
        if shared.bias is not None:
            made += shared.bias
        inner = product[:, shared.outputs :]
        if shared.adapters:
            made = made.addmm_(inner.float(), shared.second_factors().t())
        ctx.save_for_backward(taken, inner.clone())
        ctx.shared = shared
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        taken, inner = ctx.saved_tensors
        shared: SharedProduct = ctx.shared
        dtype = taken.dtype
        # The adapters' part of the gradient is summed within the frozen layers' own product.
        all_of_it = _ROOM.of(0, len(taken), columns=shared.shape[0], dtype=dtype)
        outputs, ranks = all_of_it[:, : shared.outputs], all_of_it[:, shared.outputs :]
        outputs.copy_(gradients[0])
        if not shared.adapters:
            return (_states(all_of_it, shared) if ctx.needs_input_grad[0] else None, None)
        torch.mm(outputs, shared.second_factors().to(dtype), out=ranks)
        firsts = (ranks.t() @ taken).float()
        seconds = (outputs.t() @ inner).float()
        factors = [
            gradient
            for one in shared.adapters
            for gradient in (firsts[one.ranks], seconds[one.outputs, one.ranks] * one.scale)
        ]
        states = _states(all_of_it, shared) if ctx.needs_input_grad[0] else None
        return (states, None, *factors)


def _states(gradient: torch.Tensor, shared: SharedProduct) -> torch.Tensor:
    """Return the gradient of the input, (tokens, inputs), fp32."""
    product = _ROOM.of(1, len(gradient), columns=shared.shape[1], dtype=gradient.dtype)
    return torch.mm(gradient, shared.matrix(), out=product).to(torch.float32, copy=True)


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
