"""Beginnings that packed texts have in common: what each token sees there is the same in all.

Chats begin with the same instruction, and the two answers of a pair with the same prompt. In a
causal model such tokens have the same states in each of their texts, so they go through the model
once, and the gradients of all their places are added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

_WORTH = 1 / 16
"""The least share of the tokens that is left out; for fewer, their attention costs as much."""


@dataclass(frozen=True, eq=False)
class Prefixes:
    """Which tokens of packed texts are one and the same."""

    kept: torch.Tensor
    """The tokens that go through the model, ascending, (kept,), int64."""
    of: torch.Tensor
    """Which of the kept each token is, (tokens,), int64."""
    chain: tuple[tuple[int, int, int], ...]
    """Text, other text, and how many tokens the other begins with that are those of the text.

    Whoever goes through it in this order, and adds to each text what the other one has there, ends
    with all that there is at the places of the kept tokens.
    """


def shared_prefixes(ids: torch.Tensor, lengths: Sequence[int]) -> Prefixes | None:
    """Return what the texts in `ids`, (tokens,), int64, one behind the other, have in common.

    Returns `None` where that is little.
    """
    ends = np.cumsum(lengths)
    texts = np.split(ids.numpy(), ends[:-1])
    # Where all beginnings are in order, each text has most in common with the one before it.
    order = sorted(range(len(texts)), key=lambda at: texts[at].astype(">i8").tobytes())
    of, chain = np.arange(len(ids)), []
    begins = ends - lengths
    for text, other in pairwise(order):
        same = _alike(texts[text], texts[other])
        of[begins[other] :][:same] = of[begins[text] :][:same]
        chain.append((text, other, same))
    kept = np.unique(of)
    if len(ids) - len(kept) < _WORTH * len(ids):
        return None
    return Prefixes(
        torch.from_numpy(kept),
        torch.from_numpy(np.searchsorted(kept, of)),
        tuple(link for link in reversed(chain) if link[2]),
    )


def _alike(text: np.ndarray, other: np.ndarray) -> int:
    """Return with how many equal numbers both begin."""
    length = min(len(text), len(other))
    differ = np.flatnonzero(text[:length] != other[:length])
    return int(differ[0]) if len(differ) else length
