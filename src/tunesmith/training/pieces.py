"""How much is worked on at once where all of it would not stay in a cache, or in memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pieces:
    """The sizes of pieces."""

    tokens: int
    """Tokens whose logits are made together."""
    logits: int
    """Logits that are in memory together, where that is fewer."""
    in_fp32: int
    """Of these, how many are worked on together in fp32."""
    numbers: int
    """Numbers between the products of a feed-forward block that are worked on together."""


CACHED = Pieces(tokens=256, logits=2**24, in_fp32=2**21, numbers=2**19)
"""What suits the caches of processors: 34 MB of logits in bf16, 8 MB of them in fp32, 2 MB of
numbers, beside which some of their like stand. With fewer tokens the head's product is slower."""

LARGE = Pieces(tokens=4096, logits=2**27, in_fp32=2**27, numbers=2**31)
"""What suits devices, which are slow to be told of one piece after another: 540 MB of logits in
fp32, and whole feed-forward blocks."""
