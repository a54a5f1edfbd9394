"""Intervals of numbers that are found on lines: the lines are drawn anew, again and again.

The percentile bootstrap (Efron 1979), its interval widened for few lines as Hesterberg proposes
(2014, arXiv:1411.5279), where it would be too narrow. Two models are compared on the same
draws, so that what makes a line hard for both does not count (a paired bootstrap).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from tunesmith.domain.verdicts import Interval

Numbers = npt.NDArray[np.float64]
"""Numbers of lines or of draws."""

DRAWS = 2000
"""How often the lines are drawn anew."""

_SEED = 0
_TAIL = 0.025


def drawn_sums(columns: Numbers) -> Numbers:
    """Return the sums of `columns`, (lines, columns), over each draw: (draws, columns).

    A draw has as many lines as there are, each any of them. It is the same at each call.
    """
    lines = len(columns)
    random = np.random.default_rng(_SEED)
    sums = np.empty((DRAWS, columns.shape[1]))
    for draw in range(DRAWS):
        times = np.bincount(random.integers(lines, size=lines), minlength=lines)
        sums[draw] = times @ columns
    return sums


def interval(of: Callable[[Numbers], Numbers], columns: Numbers, *, draws: Numbers) -> Interval:
    """Return what `of` makes of the sums of `columns`, and its 95 % interval over the `draws`.

    `of` takes sums, (…, columns), and returns a number for each, (…).
    """
    share = widened_tail(len(columns))
    low, high = np.quantile(of(draws), [share, 1 - share])
    return Interval(value=float(of(columns.sum(axis=0))), low=float(low), high=float(high))


def widened_tail(lines: int) -> float:
    """Return the share of draws below a 95 % interval over so many `lines`; 0.025 of many."""
    if lines < 2:
        return 0.0
    return NormalDist().cdf(-math.sqrt(lines / (lines - 1)) * _students(lines - 1))


def _students(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's distribution, nearly from 3 degrees of freedom on.

    The expansion is that of Abramowitz and Stegun, 26.7.5.
    """
    z = NormalDist().inv_cdf(1 - _TAIL)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(sum(term / freedom**power for power, term in enumerate(terms)))
