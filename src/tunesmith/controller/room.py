"""What is free on each node of the cluster, while attempts are placed there in thought."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from tunesmith.cluster.protocol import CPU, MEMORY, Amounts, Node
from tunesmith.domain.jobs import Job

Placement = tuple[str, ...]
"""The node of each worker, by its id."""


@dataclass(frozen=True)
class Demand:
    """What an attempt holds while it runs; alike demands are equal."""

    worker: tuple[tuple[str, float], ...]
    """How much each worker holds of each resource, by Ray's names, on one node."""
    workers: int = 1
    """How many there are."""

    @property
    def cpus(self) -> float:
        """Processors of all workers together."""
        return dict(self.worker).get(CPU, 0.0) * self.workers

    @property
    def total(self) -> Amounts:
        """What all workers hold together."""
        return {name: amount * self.workers for name, amount in self.worker}


def largest_node(nodes: Iterable[Node]) -> float:
    """Return the processors of the largest of `nodes`; 0 for none."""
    return max((node.cpus for node in nodes), default=0.0)


def demand_of(job: Job, *, largest: float) -> Demand:
    """Return what `job` will hold, where the largest node has so many processors.

    A job that was launched before has its processors, unless no node has so many any more.
    """
    cpus = job.request.cpus or (job.tuning.cpus if job.tuning else None)
    if cpus is None or (job.request.cpus is None and cpus > largest):
        cpus = int(largest)
    worker = ((CPU, float(cpus)),)
    memory = job.request.memory
    return Demand(worker if memory is None else (*worker, (MEMORY, float(memory))))


class Room:
    """What is free on each node."""

    def __init__(self, free: dict[str, Amounts]) -> None:
        """Begin with so much free on each node, by the node's id."""
        self._free = free

    @classmethod
    def whole(cls, nodes: Iterable[Node]) -> Self:
        """Return the room of `nodes` while nothing is taken."""
        return cls({node.id: dict(node.total) for node in nodes})

    def copy(self) -> Room:
        """Return room that is as this is now, and changes for itself."""
        return Room({node: dict(free) for node, free in self._free.items()})

    def at_most(self, nodes: Iterable[Node]) -> None:
        """Let no node have more free than it reports itself: others may use the cluster too."""
        for node in nodes:
            free = self._free[node.id]
            for name, amount in node.free.items():
                free[name] = min(free.get(name, 0.0), amount)

    def placement(self, demand: Demand) -> Placement | None:
        """Return where the workers of `demand` fit, all at once; `None` where they do not.

        Each goes where it leaves the fewest processors free, so that large rooms stay whole.
        """
        if demand.workers == 1:
            node = self._tightest(demand)
            return None if node is None else (node,)
        tried, placed = self.copy(), []
        for _ in range(demand.workers):
            node = tried._tightest(demand)
            if node is None:
                return None
            tried._add(node, demand, sign=-1)
            placed.append(node)
        return tuple(placed)

    def has(self, placement: Placement, demand: Demand) -> bool:
        """Tell whether `demand` fits just there."""
        if any(node not in self._free for node in placement):
            return False
        return all(
            self._free[node].get(name, 0.0) >= amount * placement.count(node)
            for node in set(placement)
            for name, amount in demand.worker
        )

    def take(self, placement: Placement, demand: Demand) -> None:
        """Take `demand` off the nodes of `placement`; those that are gone are passed over."""
        for node in placement:
            self._add(node, demand, sign=-1)

    def give(self, placement: Placement, demand: Demand) -> None:
        """Give back what `take` took."""
        for node in placement:
            self._add(node, demand, sign=1)

    def missing(self, demand: Demand) -> Amounts:
        """Return what a worker of `demand` lacks on the node where it lacks the fewest processors.

        Nothing is missing where a worker fits.
        """
        lacking = (
            {name: amount - free.get(name, 0.0) for name, amount in demand.worker}
            for free in self._free.values()
        )
        short = [{name: most for name, most in each.items() if most > 0} for each in lacking]
        return min(short, key=lambda each: (each.get(CPU, 0.0), len(each)), default={})

    def _tightest(self, demand: Demand) -> str | None:
        fitting = (
            (free.get(CPU, 0.0), node)
            for node, free in self._free.items()
            if all(free.get(name, 0.0) >= amount for name, amount in demand.worker)
        )
        return min(fitting, default=(0.0, None))[1]

    def _add(self, node: str, demand: Demand, *, sign: int) -> None:
        free = self._free.get(node)
        if free is not None:
            for name, amount in demand.worker:
                free[name] = free.get(name, 0.0) + sign * amount
