"""Signs of life and leases, by which one process knows of another through the store."""

from __future__ import annotations

from pydantic import Field

from tunesmith.domain.values import Value

CONTROLLER = "controller"
"""Name of the controller's sign, and of the lease by which one of several leads."""

BEAT = 5
"""Seconds between two signs of a process that is alive."""

PATIENCE = 30
"""Seconds without a sign after which a process is taken for dead."""


STANDBY = "standby"
"""Name of the lease of the controller that takes over when the one that leads is gone."""

LEASE_LIFE = 6.0
"""Seconds for which a lease holds unless it is renewed; so long a dead leader is waited for."""


class SignOfLife(Value):
    """The last that was seen of a process."""

    process: str
    """Which one."""
    at: int
    """Unix seconds."""
    cluster_up: bool
    """Whether the cluster answered it then."""
    there: dict[str, float] = Field(default_factory=dict)
    """What the cluster's nodes had in all then, by Ray's names of the resources; `memory` in
    bytes."""
    held: dict[str, float] = Field(default_factory=dict)
    """What of it was held."""


class Lease(Value):
    """What one process at a time may do, for as long as it renews this."""

    name: str
    """What it is for."""
    holder: str
    """Who has it; empty once it was released."""
    term: int
    """Grows by one with each holder, so that an earlier one is known, whatever its clock says."""
    expires_at: float
    """Unix seconds."""

    def held(self, *, now: float) -> bool:
        """Tell whether it holds at the unix second `now`; one from the future has another clock."""
        return now < self.expires_at <= now + LEASE_LIFE
