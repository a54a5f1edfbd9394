"""The SQL of estimates."""

from __future__ import annotations

from sqlalchemy import delete, select, update

from tunesmith.domain.errors import NotFoundError, StaleJobError
from tunesmith.domain.estimates import Estimate, EstimateStatus
from tunesmith.store.database import reading, writing
from tunesmith.store.queries import insert_values, read_all, read_one
from tunesmith.store.rows import to_row
from tunesmith.store.scope import Scope
from tunesmith.store.tables import ESTIMATES

_OPEN = [status.value for status in EstimateStatus if not status.ended]


class SqlEstimates(Scope):
    """Each method does what `EstimateStore` says of it, in one transaction."""

    def add_estimate(self, estimate: Estimate) -> None:
        """Add an estimate; see `Store.add_estimate`."""
        with writing(self._engine) as connection:
            insert_values(connection, ESTIMATES, self._owned(estimate))

    def estimate(self, estimate_id: str) -> Estimate:
        """Return the estimate of that id; see `Store.estimate`."""
        query = select(ESTIMATES).where(ESTIMATES.c.id == estimate_id, self._mine(ESTIMATES))
        missing = NotFoundError(f"No such estimate: {estimate_id[:100]}.", param="estimate_id")
        with reading(self._engine) as connection:
            return read_one(connection, query, kind=Estimate, missing=missing)

    def open_estimates(self) -> list[Estimate]:
        """Return the estimates that have not ended; see `Store.open_estimates`."""
        query = select(ESTIMATES).where(ESTIMATES.c.status.in_(_OPEN), self._mine(ESTIMATES))
        with reading(self._engine) as connection:
            return read_all(connection, query.order_by(ESTIMATES.c.seq), kind=Estimate)

    def measured_estimates(self, *, limit: int) -> list[Estimate]:
        """Return the newest that have succeeded; see `Store.measured_estimates`."""
        succeeded = ESTIMATES.c.status == EstimateStatus.SUCCEEDED.value
        query = select(ESTIMATES).where(succeeded, self._mine(ESTIMATES))
        with reading(self._engine) as connection:
            newest = query.order_by(ESTIMATES.c.seq.desc()).limit(limit)
            return read_all(connection, newest, kind=Estimate)

    def change_estimate(self, seen: Estimate, changed: Estimate) -> Estimate:
        """Put `changed` in the place of the estimate as it was seen; see `Store`."""
        unchanged = (ESTIMATES.c.id == seen.id) & (ESTIMATES.c.status == seen.status.value)
        with writing(self._engine) as connection:
            done = connection.execute(
                update(ESTIMATES).where(unchanged, self._mine(ESTIMATES)).values(to_row(changed))
            )
            if done.rowcount != 1:
                raise StaleJobError(f"Estimate '{seen.id}' is no longer {seen.status}.")
        return changed

    def drop_estimates(self, *, before: int) -> int:
        """Forget the estimates that ended long ago; see `Store.drop_estimates`."""
        old = (ESTIMATES.c.finished_at < before) & self._mine(ESTIMATES)
        with writing(self._engine) as connection:
            return connection.execute(delete(ESTIMATES).where(old)).rowcount
