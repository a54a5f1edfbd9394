"""What the controller asks of a cluster."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Protocol

from tunesmith.domain.devices import DEVICES
from tunesmith.domain.values import Value

CPU, MEMORY = "CPU", "memory"
"""Ray's names of processors and of bytes of memory."""

Amounts = dict[str, float]
"""How much there is of each resource, by Ray's name of it."""


class Submission(Value):
    """One command to run on the cluster."""

    id: str
    """Its name; submitting the same name again changes nothing."""
    command: tuple[str, ...]
    """Program and arguments. The program `python` is the cluster's own interpreter."""
    cpus: float
    """Processors it holds while it runs, in all."""
    memory: int | None = None
    """Bytes of memory it holds while it runs; `None` means that it claims none."""
    device: str | None = None
    """Ray's name of a device of which it holds one while it runs; `None` means that it has none."""
    drives: bool = False
    """Whether workers that it starts on the cluster hold the processors, and it holds nothing."""
    node: str | None = None
    """Id of the node that it is to run on; `None` means any."""


class SubmissionState(StrEnum):
    """Where a submission stands, in Ray's words."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"

    @property
    def ended(self) -> bool:
        """Whether the command no longer runs."""
        return self in (
            SubmissionState.STOPPED,
            SubmissionState.SUCCEEDED,
            SubmissionState.FAILED,
        )


class SubmissionStatus(Value):
    """What the cluster says of a submission."""

    state: SubmissionState
    """Where it stands."""
    message: str = ""
    """The cluster's own words, for the operator."""
    node: str | None = None
    """Id of the node that it runs on, once that is known."""


class Node(Value):
    """One machine of the cluster."""

    id: str
    """Ray's id of it."""
    total: Amounts
    """What it has in all, by Ray's names of the resources; `memory` in bytes."""
    free: Amounts
    """What of it nothing holds, as far as Ray has counted: it does so every few seconds."""
    passing: bool = False
    """Whether it is taken away again once nothing has run on it for a while."""

    @property
    def cpus(self) -> float:
        """Processors it has in all."""
        return self.total.get(CPU, 0.0)


class Coming(Value):
    """Nodes of one group that are not there, but would be added."""

    name: str
    """The group's name."""
    resources: Amounts
    """What one of them would have in all, by Ray's names of the resources. Of memory that is not
    told there is enough."""
    more: int
    """How many may still come, 0 or more."""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes as they would be, under names of ours."""
        total = {MEMORY: math.inf} | self.resources
        return tuple(
            Node(id=f"{self.name}/{number}", total=total, free=total)
            for number in range(1, self.more + 1)
        )


class Resources(Value):
    """What the cluster has."""

    nodes: tuple[Node, ...]
    """The nodes that are alive."""
    coming: tuple[Coming, ...] = ()
    """What may still be added to them; nothing where nobody scales the cluster."""

    @property
    def free_cpus(self) -> float:
        """Processors that nothing holds, over all nodes."""
        return sum(node.free.get(CPU, 0.0) for node in self.nodes)

    @property
    def there(self) -> Amounts:
        """Processors, memory and devices of all nodes, so far as there are any."""
        return {
            name: amount
            for name in (CPU, MEMORY, *DEVICES)
            if (amount := sum(node.total.get(name, 0.0) for node in self.nodes))
        }

    @property
    def held(self) -> Amounts:
        """What of them something holds."""
        free = {name: sum(node.free.get(name, 0.0) for node in self.nodes) for name in self.there}
        return {name: amount - free[name] for name, amount in self.there.items()}


class Cluster(Protocol):
    """Runs commands. Each method raises `ClusterUnavailableError` where Ray does not answer."""

    def submit(self, submission: Submission) -> None:
        """Start `submission`; nothing happens where one of that id exists already."""

    def status(self, submission_id: str) -> SubmissionStatus | None:
        """Return how it stands, or `None` where the cluster knows none of that id."""

    def stop(self, submission_id: str) -> None:
        """Ask it to end (SIGTERM, then SIGKILL after seconds); an ended one stays as it is."""

    def logs(self, submission_id: str, *, lines: int = 1000) -> str:
        """Return the last `lines` that it has printed; nothing for an unknown id.

        Nor is there anything where its node is gone.
        """

    def resources(self) -> Resources:
        """Return what the cluster has and what is free."""
