"""Thin a curve out to what a screen can show, so that none of its peaks is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

_Point = TypeVar("_Point")


def thinned(points: Sequence[_Point], *, most: int, heights: Sequence[float]) -> list[_Point]:
    """Return at most `most` of `points`, in their order; the first and the last are among them.

    `heights` has one number a point. The points between are divided into equal stretches, and of
    each the lowest and the highest point stay. With `most` below 4, only both ends do.
    """
    count = len(points)
    if count <= most:
        return list(points)
    kept = {0, count - 1}
    stretches = (most - 2) // 2
    for number in range(stretches):
        start = 1 + number * (count - 2) // stretches
        end = 1 + (number + 1) * (count - 2) // stretches
        stretch = range(start, end)
        kept.add(min(stretch, key=heights.__getitem__))
        kept.add(max(stretch, key=heights.__getitem__))
    return [points[place] for place in sorted(kept)]
