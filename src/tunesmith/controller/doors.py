"""The controller's doors to everything outside of it."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.cluster.protocol import Cluster
from tunesmith.domain.clock import Clock
from tunesmith.domain.disk import UNWATCHED, Disk
from tunesmith.store.protocol import Store


@dataclass(frozen=True, slots=True)
class Doors:
    """What the controller works through; each has a fake for tests."""

    store: Store
    """The jobs."""
    cluster: Cluster
    """Where they run."""
    artifacts: Artifacts
    """Their files and run directories."""
    clock: Clock
    """The time."""
    disk: Disk = UNWATCHED
    """The disk of the data folder; nothing new is launched where it has too little room."""
    secrets: frozenset[str] = frozenset()
    """What no log of a run may show, beside the service's own keys."""
