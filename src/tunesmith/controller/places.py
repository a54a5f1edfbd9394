"""Where workers find a place, were all nodes free: each on one node, on one as many as fit.

Of another device than processors, each worker holds one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from tunesmith.cluster.protocol import Node
from tunesmith.domain.devices import DEVICES, Device
from tunesmith.domain.spec import JobRequest


class Grant(NamedTuple):
    """What a job gets."""

    workers: int
    """How many train together."""
    cpus: int
    """Processors of each."""


class Places:
    """The processors and devices of a cluster's nodes."""

    def __init__(self, nodes: Iterable[Node], *, coming: Iterable[Node] = ()) -> None:
        """Take the nodes, whether anything of them is taken or not.

        Those `coming` may be added: they count where the others have no place.
        """
        self._nodes = tuple(nodes)
        added = tuple(coming)
        self._grown = Places((*self._nodes, *added)) if added else None
        self._by_device: dict[Device, PlacesOnDevice] = {}
        self._granted: dict[tuple[Device | int | None, ...], Grant | None] = {}

    def on(self, device: Device) -> PlacesOnDevice:
        """Return the places of workers that train on `device`."""
        if device not in self._by_device:
            self._by_device[device] = PlacesOnDevice(self._nodes, device)
        return self._by_device[device]

    def grant(self, request: JobRequest, *, had: int | None = None) -> Grant | None:
        """Return what `request` gets; `None` where its fewest workers find no place.

        Where it leaves processors open, each worker has what it `had` before, if there is as much.
        """
        asked = (request.device, request.workers, request.fewest_workers, request.cpus, had)
        if asked not in self._granted:
            granted = self._grant(request, request.cpus or had)
            if granted is None and self._grown is not None:
                granted = self._grown.grant(request, had=had)
            self._granted[asked] = granted
        return self._granted[asked]

    def _grant(self, request: JobRequest, wanted: int | None) -> Grant | None:
        places = self.on(request.device)
        for workers in range(request.workers, request.fewest_workers - 1, -1):
            if wanted and places.count(wanted) >= workers:
                return Grant(workers, wanted)
            most = 0 if request.cpus else places.most_cpus(workers)
            if most:
                return Grant(workers, most)
        return None


class PlacesOnDevice:
    """Where workers of one device find a place."""

    def __init__(self, nodes: Iterable[Node], device: Device) -> None:
        """Take those of `nodes` that have the device."""
        sizes = Counter(_size(node, device) for node in nodes)
        self._nodes = {size: count for size, count in sizes.items() if size.most_workers}
        self.largest = max((size.cpus for size in self._nodes), default=0)
        """Processors of the largest node that has the device."""
        own = [size for size in self._nodes if not size.other_devices]
        parts = [size.part for size in own or self._nodes]
        # Of unlike nodes, none is to have devices left over that nobody has processors for.
        self._part = (max if device.resource is None else min)(parts, default=0)

    def count(self, cpus: int) -> int:
        """Return how many workers of `cpus` processors, at least 1, find a place."""
        return sum(
            min(size.cpus // cpus, size.most_workers) * count for size, count in self._nodes.items()
        )

    def most_cpus(self, workers: int) -> int:
        """Return the most processors that each of `workers` can have, perhaps 0.

        They are those of nodes without devices, where there are any; on devices, those that there
        are for each of them.
        """
        return next((n for n in range(self._part, 0, -1) if self.count(n) >= workers), 0)


class _Size(NamedTuple):
    """What a node has for workers of a device."""

    cpus: int
    most_workers: int
    """For how many of them it has devices."""
    part: int
    """Processors that each has if they are divided by its devices."""
    other_devices: bool
    """Whether it has devices of which these workers use none."""


def _size(node: Node, device: Device) -> _Size:
    cpus = int(node.cpus)
    if device.resource is None:
        return _Size(cpus, cpus, cpus, any(node.total.get(name) for name in DEVICES))
    devices = int(node.total.get(device.resource, 0.0))
    return _Size(cpus, devices, max(cpus // max(devices, 1), min(cpus, 1)), other_devices=False)
