"""What the rooms above ask of the store to know which process lives, and which leads."""

from __future__ import annotations

from typing import Protocol

from tunesmith.domain.liveness import Lease, SignOfLife


class LifeStore(Protocol):
    """Keeps the processes' signs of life."""

    def give_sign(self, sign: SignOfLife) -> None:
        """Keep `sign` as the last of its process."""

    def last_sign(self, process: str) -> SignOfLife | None:
        """Return the last sign of `process`; `None` where there never was one."""


class LeaseStore(Protocol):
    """Keeps leases, by which one of several processes does what only one may."""

    def take_lease(self, name: str, holder: str) -> Lease | None:
        """Give `holder` the lease of that name for `LEASE_LIFE` seconds, and return it.

        Returns `None` where another holds it by the store's clock. Who holds it already
        begins another term, and with its old one is shut out.
        """

    def renew_lease(self, lease: Lease) -> None:
        """Let `lease` hold for another `LEASE_LIFE` seconds, also where it has expired meanwhile.

        Raises `LeaseLostError` where it was taken or released since.
        """

    def release_lease(self, lease: Lease) -> None:
        """Give `lease` back, so that another need not wait; nothing happens where it is lost."""

    def lease(self, name: str) -> Lease | None:
        """Return the lease of that name if somebody holds it by the store's clock."""
