"""Keeps on each node a warm process, by which runs on one worker begin seconds earlier."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.cluster.protocol import CPU, Cluster, Node, Submission
from tunesmith.domain.errors import ClusterUnavailableError

LOOK_EVERY = 2
"""Seconds between two looks, each at one node."""
_ROOM = "." * 80
"""An argument that says nothing: trainers' titles take no more room than the command line has."""
_PAUSE = 30
"""Seconds after which a warm process that ended is started anew."""
IDLE = 30
"""Seconds after which a node that may leave when it is idle has a warm process no more, which would
keep it."""


@dataclass
class _Warm:
    """What is known of a node's warm process."""

    number: int = 1
    """How many there were, with this one."""
    ended_at: int | None = None
    """When the last was seen to have ended, in unix seconds."""
    idle_since: int | None = None
    """Since when nothing was seen to hold a processor of the node, in unix seconds."""


class Warmth:
    """Starts warm processes, one a node, and again where one has ended."""

    def __init__(self, cluster: Cluster) -> None:
        """Know of none yet; those of a controller before are found by their names."""
        self._cluster = cluster
        self._warm: dict[str, _Warm] = {}
        self._looked_at = 0

    def keep(self, nodes: tuple[Node, ...], *, now: int) -> None:
        """Look at the node that was looked at longest ago, and start what is not there."""
        homes = [node for node in nodes if node.cpus >= 1]
        if not homes or now < self._looked_at + LOOK_EVERY:
            return
        self._looked_at = now
        # In the order of the last looks: whoever is looked at goes to the end.
        known = [node_id for node_id in self._warm if any(node.id == node_id for node in homes)]
        fresh = [node.id for node in homes if node.id not in self._warm]
        chosen = (fresh + known)[0]
        node = next(node for node in homes if node.id == chosen)
        warm = self._warm.pop(chosen, _Warm())
        self._warm = {node_id: self._warm[node_id] for node_id in known if node_id != chosen}
        self._warm[chosen] = warm
        try:
            self._look(node, warm, now=now)
        except ClusterUnavailableError:
            return

    def _look(self, node: Node, warm: _Warm, *, now: int) -> None:
        submission = _submission(node.id, warm.number)
        status = self._cluster.status(submission.id)
        if status is not None and status.state.ended:
            warm.number, warm.ended_at = warm.number + 1, now
        elif _let_go(node, warm, now=now):
            if status is not None:
                self._cluster.stop(submission.id)
        elif status is None and (warm.ended_at is None or now >= warm.ended_at + _PAUSE):
            self._cluster.submit(submission)


def _let_go(node: Node, warm: _Warm, *, now: int) -> bool:
    """Tell whether `node` is to leave, since nothing has run on it for a while."""
    if not node.passing or node.free.get(CPU, 0.0) < node.cpus:
        warm.idle_since = None
    elif warm.idle_since is None:
        warm.idle_since = now
    return warm.idle_since is not None and now >= warm.idle_since + IDLE


def _submission(node: str, number: int) -> Submission:
    return Submission(
        id=f"tunesmith-warm-{node}-{number}",
        command=("python", "-m", "tunesmith.training.warm", _ROOM),
        cpus=0,
        node=node,
    )
