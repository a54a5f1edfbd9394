"""Products of a few rows with large weights, on processors quicker than `linear` makes them.

The weights are brought once into the order in which oneDNN reads them. The kernels are those that
`torch.compile` takes for a model whose weights are frozen (`torch._inductor.mkldnn_lowerings`).
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch.nn.functional import linear

_DTYPES = frozenset({torch.float32, torch.bfloat16})


class Product(Protocol):
    """A linear map."""

    def __call__(self, states: torch.Tensor, /) -> torch.Tensor:
        """Return (..., outputs) for `states`, (..., inputs)."""

    def added(self, made: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Return `made`, (..., outputs), and what it makes of `states` added to it."""


def product_with(weight: torch.Tensor, bias: torch.Tensor | None = None, *, rows: int) -> Product:
    """Return the map by `weight`, (outputs, inputs), for about `rows` rows at a time."""
    packed = weight.device.type == "cpu" and weight.dtype in _DTYPES and torch._C._has_mkldnn
    return _Packed(weight, bias, rows=rows) if packed else _Plain(weight, bias)


class _Packed:
    """A map by a weight in the order in which oneDNN reads it; the weight itself is not kept."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, *, rows: int) -> None:
        whole = weight.detach().contiguous()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(whole, rows)
        self._bias = bias

    def __call__(self, states: torch.Tensor, /) -> torch.Tensor:
        made: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            states, self._weight, self._bias, "none", [], ""
        )
        return made

    def added(self, made: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        both: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            states, made, self._weight, self._bias, "add"
        )
        return both


class _Plain:
    """A map by a weight as it is."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight, self._bias = weight, bias

    def __call__(self, states: torch.Tensor, /) -> torch.Tensor:
        return linear(states, self._weight, self._bias)

    def added(self, made: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        return made.add_(self(states))
