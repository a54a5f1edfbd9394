"""Runs on Ray's head: asks for nodes, by placement groups that fit on none that is there.

Pending placement groups are what all of Ray's autoscalers look at, whoever starts their nodes. The
groups end with this program, so that a request that nobody needs any more cannot stay behind.
"""

from __future__ import annotations

import json
import sys
import time

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

PATIENCE = 300.0
"""Seconds after which this ends, come what may: whoever needs the nodes asks again."""


def ask(nodes: list[tuple[int, dict[str, float]]], *, patience: float = PATIENCE) -> int:
    """Ask for so many nodes with at least so much of each resource, for each pair of `nodes`.

    Return how many have not come after `patience` seconds. What has come is let go at once: who
    waits for it is launched there.
    """
    pending: list[PlacementGroup] = [
        placement_group([resources]) for count, resources in nodes for _ in range(count)
    ]
    end = time.monotonic() + patience
    while pending and time.monotonic() < end:
        left = []
        for group in pending:
            if group.wait(timeout_seconds=1 / len(pending)):
                remove_placement_group(group)
            else:
                left.append(group)
        pending = left
    return len(pending)


if __name__ == "__main__":
    ray.init(log_to_driver=False)
    sys.exit(1 if ask(json.loads(sys.argv[1])) else 0)
