"""Memory that is used again and again: fresh memory costs a good part of what is computed in it."""

from __future__ import annotations

import math
from enum import Enum, auto

import torch


class Use(Enum):
    """What a room is for. What stands in one holds until the next with the same use is taken."""

    MATRIX = auto()
    """Frozen weights that are not kept in the precision of the products."""
    PRODUCT = auto()
    """What a product gives, before it is summed up in fp32."""
    GRADIENT = auto()
    """The gradient of a product's outputs."""
    STATES = auto()
    """The gradient of a product's inputs."""
    COMPLETE = auto()
    """A product with its bias and its adapters, for a moment."""
    BETWEEN = auto()
    """What stands between the two products of a feed-forward block."""
    SCORES = auto()
    """Scores of attention as a product gives them, or the gradient of its weights."""
    WEIGHTS = auto()
    """Weights of attention in fp32."""


class _Rooms:
    def __init__(self) -> None:
        self._kept: dict[tuple[Use, torch.dtype, torch.device], torch.Tensor] = {}

    def room(self, use: Use, *shape: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        size = math.prod(shape)
        kept = self._kept.get((use, dtype, device))
        if kept is None or len(kept) < size:
            kept = self._kept[use, dtype, device] = torch.empty(size, dtype=dtype, device=device)
        return kept[:size].view(shape)


room = _Rooms().room
"""Return room of a shape and a dtype on a device for one `Use`, the same for all layers."""
