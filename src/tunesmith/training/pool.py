"""The texts of rows that have many passages, and which of them a step draws."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
"""Numbers of texts or tokens, or how many there are."""


@dataclass(frozen=True)
class Pool:
    """All texts of some examples, each of which has as many as it has.

    The texts of an example stand one behind the other: `lead` queries, the passages that
    answer, those that do not.
    """

    starts: Numbers
    """Where each text begins in the shared tokens, (texts,)."""
    ends: Numbers
    """Where each text ends there, exclusive, (texts,)."""
    cut: npt.NDArray[np.bool_]
    """Whether a part of each text lay beyond the greatest length, (texts,)."""
    first: Numbers
    """Number of each example's first text, (examples,)."""
    positives: Numbers
    """How many passages of each example answer, at least 1, (examples,)."""
    negatives: Numbers
    """How many do not, perhaps 0, (examples,)."""
    lead: int
    """1 where the query is a text of its own, which is in each draw, else 0."""
    group: int
    """Passages of a draw, the first of which answers."""

    def take(self, chosen: Numbers) -> Pool:
        """Return the pool of the `chosen` examples, sharing the texts."""
        return replace(
            self,
            first=self.first[chosen],
            positives=self.positives[chosen],
            negatives=self.negatives[chosen],
        )

    @property
    def sizes(self) -> Numbers:
        """Texts of each example, (examples,)."""
        return self.lead + self.positives + self.negatives

    def all(self) -> Numbers:
        """Return the numbers of all texts of the examples, in order, (texts of them,)."""
        sizes = self.sizes
        before = np.cumsum(sizes) - sizes
        return np.repeat(self.first - before, sizes) + np.arange(sizes.sum())

    def sides(self) -> list[str]:
        """Return what each text of `all` is: `query`, `positive` or `negative`."""
        counts = zip(self.positives.tolist(), self.negatives.tolist(), strict=True)
        return [
            side
            for right, wrong in counts
            for side, count in (("query", self.lead), ("positive", right), ("negative", wrong))
            for _ in range(count)
        ]

    def drawn(self, random: np.random.Generator | None) -> Numbers:
        """Return the texts of a draw, (examples, lead + group): of `None`, the first ones.

        The passages that do not answer are repeated where they are too few, each as
        often as the others, or once more. In place of one that is not there at all
        stands the passage that answers, which objectives do not count against itself.
        """
        rows = [self._row(at, random) for at in range(len(self.first))]
        return np.array(rows, dtype=np.int64).reshape(-1, self.lead + self.group)

    def _row(self, at: int, random: np.random.Generator | None) -> list[int]:
        first, right, wrong = (
            int(part[at]) for part in (self.first, self.positives, self.negatives)
        )
        begin, wanted = first + self.lead, self.group - 1
        answer = begin + (int(random.integers(right)) if random else 0)
        others: Iterable[int] = [answer] * wanted
        if wrong:
            rounds = -(-wanted // wrong)
            orders = [random.permutation(wrong) if random else range(wrong) for _ in range(rounds)]
            others = [begin + right + int(each) for order in orders for each in order][:wanted]
        return [*range(first, begin), answer, *others]
