"""What is free on each node of the cluster, while attempts are placed there in thought."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from tunesmith.cluster.protocol import CPU, MEMORY, Amounts, Node
from tunesmith.controller.places import Grant, Places
from tunesmith.domain.devices import DEVICES
from tunesmith.domain.jobs import Job
from tunesmith.domain.spec import JobRequest

Placement = tuple[str, ...]
"""The node of each worker, by its id."""


@dataclass(frozen=True)
class Demand:
    """What an attempt holds while it runs; alike demands are equal."""

    worker: tuple[tuple[str, float], ...]
    """How much each worker holds of each resource, by Ray's names, on one node."""
    workers: int = 1
    """How many there are."""

    @classmethod
    def of(cls, granted: Grant, request: JobRequest) -> Demand:
        """Return what the workers of `request` hold that have what is `granted`."""
        held = [(CPU, float(granted.cpus))]
        if request.device.resource is not None:
            held.append((request.device.resource, 1.0))
        if request.memory is not None:
            held.append((MEMORY, float(request.memory)))
        return cls(tuple(held), granted.workers)

    @cached_property
    def cpus(self) -> float:
        """Processors of all workers together."""
        return dict(self.worker).get(CPU, 0.0) * self.workers

    @property
    def total(self) -> Amounts:
        """What all workers hold together."""
        return {name: amount * self.workers for name, amount in self.worker}


def demand_of(job: Job, *, places: Places) -> Demand:
    """Return what `job` holds, or will hold in the `places` of the nodes.

    A job that was launched before has its processors, unless no node has so many any more. What
    finds no place at all is what the fewest workers want.
    """
    tuning, request = job.tuning, job.request
    if tuning and job.submission_open:
        return Demand.of(Grant(tuning.workers, tuning.cpus), request)
    had = tuning.cpus if tuning else None
    least = Grant(request.fewest_workers, request.cpus or 1)
    return Demand.of(places.grant(request, had=had) or least, request)


class Room:
    """What is free on each node.

    Nodes with the same free are kept together, so that a demand is compared once with all of
    them: a cluster of a thousand equal nodes has about as many kinds as a node has processors.
    """

    def __init__(self, free: Mapping[str, Amounts]) -> None:
        """Begin with so much free on each node, by the node's id."""
        self._kinds = {node: _kind(amounts) for node, amounts in free.items()}
        self._alike: dict[_Kind, list[str]] = {}
        for node in sorted(self._kinds):
            self._alike.setdefault(self._kinds[node], []).append(node)

    @classmethod
    def whole(cls, nodes: Iterable[Node]) -> Self:
        """Return the room of `nodes` while nothing is taken."""
        return cls({node.id: node.total for node in nodes})

    @classmethod
    def free(cls, nodes: Iterable[Node]) -> Self:
        """Return the room of `nodes` beside what is taken by now, as they report it."""
        return cls({node.id: node.free for node in nodes})

    def copy(self, *, beside: Iterable[Node] = ()) -> Self:
        """Return room that is as this is now, and changes for itself.

        It has the nodes `beside` too, of which nothing is taken.
        """
        same = type(self)({})
        same._kinds = dict(self._kinds)
        same._alike = {kind: list(nodes) for kind, nodes in self._alike.items()}
        for node in beside:
            kind = same._kinds[node.id] = _kind(node.total)
            insort(same._alike.setdefault(kind, []), node.id)
        return same

    def at_most(self, nodes: Iterable[Node]) -> None:
        """Let no node have more free than it reports itself: others may use the cluster too."""
        for node in nodes:
            free = dict(self._kinds[node.id])
            self._set(
                node.id,
                free | {name: min(free.get(name, 0.0), most) for name, most in node.free.items()},
            )

    def placement(self, demand: Demand) -> Placement | None:
        """Return where the workers of `demand` fit, all at once; `None` where they do not.

        Each goes where it leaves the fewest processors free, so that large rooms stay whole; but
        first of all where no devices lie idle beside it that others could train on.
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
        if any(node not in self._kinds for node in placement):
            return False
        return all(
            dict(self._kinds[node]).get(name, 0.0) >= amount * placement.count(node)
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
            for free in map(dict, self._alike)
        )
        short = [{name: most for name, most in each.items() if most > 0} for each in lacking]
        return min(short, key=lambda each: (each.get(CPU, 0.0), len(each)), default={})

    def _tightest(self, demand: Demand) -> str | None:
        fitting = (
            (_idle_devices(free, demand), free.get(CPU, 0.0), nodes[0])
            for free, nodes in ((dict(kind), nodes) for kind, nodes in self._alike.items())
            if all(free.get(name, 0.0) >= amount for name, amount in demand.worker)
        )
        return min(fitting, default=(0.0, 0.0, None))[2]

    def _add(self, node: str, demand: Demand, *, sign: int) -> None:
        kind = self._kinds.get(node)
        if kind is not None:
            free = dict(kind)
            for name, amount in demand.worker:
                free[name] = free.get(name, 0.0) + sign * amount
            self._set(node, free)

    def _set(self, node: str, free: Amounts) -> None:
        old, new = self._kinds[node], _kind(free)
        if new == old:
            return
        alike = self._alike[old]
        del alike[bisect_left(alike, node)]
        if not alike:
            del self._alike[old]
        insort(self._alike.setdefault(new, []), node)
        self._kinds[node] = new


_Kind = tuple[tuple[str, float], ...]
"""How much is free of each resource, in the order of their names: one value for nodes alike."""


def _idle_devices(free: Amounts, demand: Demand) -> float:
    """Return how many devices of a node with so much `free` a worker of `demand` has no use for."""
    wanted = {name for name, _ in demand.worker}
    return sum(free.get(name, 0.0) for name in DEVICES if name not in wanted)


def _kind(free: Amounts) -> _Kind:
    return tuple(sorted(free.items()))


def in_words(missing: Amounts) -> str:
    """Return `missing` for people, such as "2 CPU and 1.5 GiB of memory"."""
    if not missing:
        return "room for all of its workers at once"
    return " and ".join(
        f"{amount / 2**30:.1f} GiB of memory" if name == MEMORY else f"{amount:g} {name}"
        for name, amount in sorted(missing.items(), key=lambda each: each[0] != CPU)
    )
