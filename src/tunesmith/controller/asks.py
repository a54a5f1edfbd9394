"""Asks the cluster for the nodes that the queue needs, and withdraws what it needs no more.

One program on the head holds the whole request, as placement groups that Ray cannot place yet: they
are what makes Ray's autoscalers add nodes. It ends once all have come or after some minutes, and
with it ends what it asked for. So nothing is asked for any more where this controller dies.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunesmith.cluster.protocol import Cluster, Coming, Submission
from tunesmith.domain.errors import ClusterUnavailableError

LOOK_EVERY = 2
"""Seconds between two looks at the program."""
STEADY = 20
"""Seconds that a request stands at the least before another takes its place, so that in a queue
that changes all the time some request is heard at all. It is withdrawn at once."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Ask:
    """A request that was made."""

    submission_id: str
    nodes: tuple[tuple[str, int], ...]
    """How many nodes of each group, by its name."""
    at: int
    """When it was made, in unix seconds."""


class Asks:
    """Keeps one request standing, for what is needed now."""

    def __init__(self, cluster: Cluster) -> None:
        """Have asked for nothing yet; a request of a controller before ends by itself."""
        self._cluster = cluster
        self._ask: _Ask | None = None
        self._looked_at = 0

    def keep(self, needed: Mapping[str, int], coming: Sequence[Coming], *, now: int) -> None:
        """Let the request be one for what is `needed` of what may be `coming`."""
        if now < self._looked_at + LOOK_EVERY or not (needed or self._ask):
            return
        self._looked_at = now
        wanted = tuple(sorted(needed.items()))
        try:
            self._look(wanted, coming, now=now)
        except ClusterUnavailableError:
            return

    def _look(
        self, wanted: tuple[tuple[str, int], ...], coming: Sequence[Coming], *, now: int
    ) -> None:
        ask = self._ask
        status = None if ask is None else self._cluster.status(ask.submission_id)
        if ask is not None and status is not None:
            if not status.state.ended:
                if ask.nodes != wanted and (not wanted or now >= ask.at + STEADY):
                    self._cluster.stop(ask.submission_id)
                return
            if ask.nodes == wanted and now < ask.at + STEADY:
                return
        # One that never reached the cluster is made again under its name: it may have, after all.
        unheard = ask is not None and status is None and ask.nodes == wanted
        if not unheard:
            ask = _Ask(f"tunesmith-nodes-{now}", wanted, now) if wanted else None
            told = ", ".join(f"{count} of '{name}'" for name, count in wanted) or "none any more"
            logger.info("Nodes that the cluster is asked for: %s.", told)
        self._ask = ask
        if ask is not None:
            self._cluster.submit(_submission(ask, coming))


def _submission(ask: _Ask, coming: Sequence[Coming]) -> Submission:
    resources = {each.name: each.resources for each in coming}
    nodes = [(count, resources[name]) for name, count in ask.nodes]
    return Submission(
        id=ask.submission_id,
        command=("python", "-m", "tunesmith.cluster.nodes", json.dumps(nodes)),
        cpus=0,
    )
