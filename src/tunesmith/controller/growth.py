"""Which nodes that are not there are needed, and for which jobs: a pure function of the queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tunesmith.cluster.protocol import Coming, Resources
from tunesmith.controller.room import Demand, Room


@dataclass(frozen=True)
class Needed:
    """What is to be added to the cluster."""

    nodes: Mapping[str, int] = field(default_factory=dict)
    """How many of each group, by its name."""
    by_job: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The group of each node that a job waits for, by the job's id."""

    def words(self, job_id: str) -> str:
        """Return what is asked for on account of that job, as a sentence to go on with."""
        groups = self.by_job.get(job_id, ())
        if not groups:
            return ""
        names = " and ".join(f"'{name}'" for name in dict.fromkeys(groups))
        nodes = "A node of {} is" if len(groups) == 1 else "Nodes of {} are"
        return f" {nodes.format(names)} asked for."


class Growth:
    """A cluster as large as it may become."""

    def __init__(self, whole: Room, coming: Sequence[Coming]) -> None:
        """Take the `whole` room of the nodes that are there, and the nodes that may come."""
        named = [(node, each.name) for each in coming for node in each.nodes]
        self._nodes = tuple(node for node, _ in named)
        self._groups = {node.id: name for node, name in named}
        self._whole = whole.copy(beside=self._nodes)
        self._possible: dict[Demand, bool] = {}

    def can_hold(self, demand: Demand) -> bool:
        """Tell whether `demand` fits once all nodes have come, and nothing is taken of any."""
        if not self._nodes:
            return False
        if demand not in self._possible:
            self._possible[demand] = self._whole.placement(demand) is not None
        return self._possible[demand]

    def needed(self, room: Room, waiting: Iterable[tuple[str, Demand]]) -> Needed:
        """Return what those who are `waiting`, by their ids in their turns, need beside `room`.

        Each is placed where it would be if all nodes came now, after those before it.
        """
        if not self._nodes:
            return Needed()
        grown, too_large = room.copy(beside=self._nodes), set[Demand]()
        used: set[str] = set()
        by_job: dict[str, tuple[str, ...]] = {}
        for job_id, demand in waiting:
            placement = None if demand in too_large else grown.placement(demand)
            if placement is None:
                too_large.add(demand)
                continue
            grown.take(placement, demand)
            added = {node for node in placement if node in self._groups}
            if added:
                used |= added
                by_job[job_id] = tuple(sorted(self._groups[node] for node in added))
        return Needed(Counter(self._groups[node] for node in used), by_job)


def needed_for(demand: Demand, resources: Resources) -> Mapping[str, int]:
    """Return how many nodes of each group `demand` needs, which stands in no queue.

    It needs none where it fits on those that are there: what is short waits until they are free.
    """
    whole = Room.whole(resources.nodes)
    if whole.placement(demand) is not None:
        return {}
    return Growth(whole, resources.coming).needed(whole, [("", demand)]).nodes
