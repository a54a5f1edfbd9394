"""Where workers find a place, were all nodes free: each on one node, on one as many as fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from tunesmith.domain.spec import JobRequest


class Grant(NamedTuple):
    """What a job gets."""

    workers: int
    """How many train together."""
    cpus: int
    """Processors of each."""


class Places:
    """The processors of a cluster's nodes."""

    def __init__(self, nodes: Iterable[float]) -> None:
        """Take the processors of each node."""
        self._nodes = Counter(int(cpus) for cpus in nodes)
        self.largest = max(self._nodes, default=0)
        """Processors of the largest node."""
        self._granted: dict[tuple[int | None, ...], Grant | None] = {}

    def count(self, cpus: int) -> int:
        """Return how many workers of `cpus` processors, at least 1, find a place."""
        return sum(size // cpus * count for size, count in self._nodes.items())

    def most_cpus(self, workers: int) -> int:
        """Return the most processors that each of `workers` can have, perhaps 0."""
        return next((n for n in range(self.largest, 0, -1) if self.count(n) >= workers), 0)

    def grant(self, request: JobRequest, *, had: int | None = None) -> Grant | None:
        """Return what `request` gets; `None` where its fewest workers find no place.

        Where it leaves processors open, each worker has what it `had` before, if there is as much.
        """
        asked = (request.workers, request.fewest_workers, request.cpus, had)
        if asked not in self._granted:
            self._granted[asked] = self._grant(request, request.cpus or had)
        return self._granted[asked]

    def _grant(self, request: JobRequest, wanted: int | None) -> Grant | None:
        for workers in range(request.workers, request.fewest_workers - 1, -1):
            if wanted and self.count(wanted) >= workers:
                return Grant(workers, wanted)
            most = 0 if request.cpus else self.most_cpus(workers)
            if most:
                return Grant(workers, most)
        return None
