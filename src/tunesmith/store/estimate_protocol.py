"""What the rooms above ask of the store about estimates."""

from __future__ import annotations

from typing import Protocol

from tunesmith.domain.estimates import Estimate


class EstimateStore(Protocol):
    """Keeps estimates of jobs."""

    def add_estimate(self, estimate: Estimate) -> None:
        """Add a queued estimate."""

    def estimate(self, estimate_id: str) -> Estimate:
        """Return the estimate of that id."""

    def open_estimates(self) -> list[Estimate]:
        """Return the estimates that have not ended, oldest first."""

    def measured_estimates(self, *, limit: int) -> list[Estimate]:
        """Return the newest `limit` estimates that have succeeded, newest first."""

    def change_estimate(self, seen: Estimate, changed: Estimate) -> Estimate:
        """Put `changed` in the place of the estimate that the caller read as `seen`; return it.

        Raises `StaleJobError`, and nothing has happened, where its status has changed since.
        """

    def drop_estimates(self, *, before: int) -> int:
        """Forget the estimates that ended before the unix second `before`; return their number."""
