"""The SQL of why jobs wait."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import bindparam, delete, insert, select

from tunesmith.domain.queue import Wait
from tunesmith.store.database import reading, writing
from tunesmith.store.queries import read_all
from tunesmith.store.rows import to_row
from tunesmith.store.scope import Scope
from tunesmith.store.tables import WAITS


class SqlWaits(Scope):
    """Each method does what `WaitStore` says of it, in one transaction."""

    def tell_waits(self, told: Sequence[Wait], *, over: Collection[str]) -> None:
        """Keep why jobs wait; see `Store.tell_waits`."""
        gone = [{"gone": job_id} for job_id in (*over, *(wait.job_id for wait in told))]
        with writing(self._engine) as connection:
            if gone:
                connection.execute(delete(WAITS).where(WAITS.c.job_id == bindparam("gone")), gone)
            if told:
                connection.execute(insert(WAITS), [to_row(wait) for wait in told])

    def waits(self, job_ids: Collection[str]) -> dict[str, Wait]:
        """Return why these jobs wait; see `Store.waits`."""
        if not job_ids:
            return {}
        query = select(WAITS).where(WAITS.c.job_id.in_(job_ids))
        with reading(self._engine) as connection:
            return {wait.job_id: wait for wait in read_all(connection, query, kind=Wait)}

    def all_waits(self) -> list[Wait]:
        """Return why each job waits; see `Store.all_waits`."""
        with reading(self._engine) as connection:
            return read_all(connection, select(WAITS).order_by(WAITS.c.position), kind=Wait)
