"""What is taken on each node of a Ray cluster, in the three ways in which Ray tells it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tunesmith.cluster.protocol import Node

Used = dict[str, float]
"""How much is taken of each resource, by Ray's name of it."""


class Usage:
    """What is taken on each node, as Ray reports it.

    Its second autoscaler tells nodes apart by their ids, the first one by their addresses. Where
    several have one address, or Ray tells of all together alone, what is taken is taken off one
    node after the other.
    """

    def __init__(
        self,
        *,
        by_id: Mapping[str, Used] | None = None,
        by_address: Mapping[str, Used] | None = None,
        together: Used | None = None,
    ) -> None:
        """Take what is known."""
        self._by_id = by_id or {}
        self._by_address = by_address or {}
        self._left = dict(together or {})

    def node(self, node: dict[str, Any], *, alone: bool) -> Node:
        """Return `node`, as Ray lists it; `alone` tells whether it has its address for itself.

        Raises `KeyError`, `TypeError` or `ValueError` where it is not listed as Ray does it.
        """
        total = {
            name: float(amount)
            for name, amount in node["resources_total"].items()
            if not name.startswith(_NOT_FOR_TASKS)
        }
        known = self._by_id.get(node["node_id"])
        if known is None and alone:
            known = self._by_address.get(node.get("node_ip") or "")
        free = {}
        for name, amount in total.items():
            if known is not None:
                taken = known.get(name, 0.0)
            else:
                taken = min(self._left.get(name, 0.0), amount)
                self._left[name] = self._left.get(name, 0.0) - taken
            free[name] = amount - taken
        return Node(id=node["node_id"], total=total, free=free)


def used_as_told(lines: str) -> Used:
    """Return what is taken of a node, of which Ray tells in lines for people.

    A line is `1.0/4.0 CPU`, or `0.0/4.0 CPU (0.0 used of 2.0 reserved in placement groups)`, of
    which all that is reserved is taken; bytes have units, `1.50GiB/3.00GiB memory`. Raises
    `ValueError` for a line that is none of these.
    """
    return dict(_used(line) for line in lines.splitlines() if line.strip())


def _used(line: str) -> tuple[str, float]:
    found = _LINE.fullmatch(line.strip())
    if found is None:
        raise ValueError(f"'{line}' does not tell of a resource.")
    used, name, of_reserved, reserved = found.groups()
    taken = _amount(used)
    if reserved is not None:
        taken += _amount(reserved) - _amount(of_reserved)
    return name, max(taken, 0.0)


def _amount(text: str) -> float:
    """Return the number that `text` stands for; of bytes that were rounded, the least."""
    for unit, size in _UNITS.items():
        if text.endswith(unit):
            return max(float(text.removesuffix(unit)) - _ROUNDED, 0.0) * size
    return float(text.removesuffix("B"))


_NOT_FOR_TASKS = ("node:", "object_store_memory", "accelerator_type:")
"""How Ray's names begin of what is no resource that a job asks for."""
_LINE = re.compile(r"(\S+)/\S+ (\S+)(?: \((\S+) used of (\S+) reserved in placement groups\))?")
_UNITS = {"TiB": 2.0**40, "GiB": 2.0**30, "MiB": 2.0**20, "KiB": 2.0**10}
_ROUNDED = 0.005
"""By how much of its unit a number of bytes may have been rounded up."""
