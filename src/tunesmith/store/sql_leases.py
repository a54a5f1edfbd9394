"""The SQL of leases, and the fence that keeps out who has lost one."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, delete, select, update

from tunesmith.domain.errors import LeaseLostError
from tunesmith.domain.liveness import LEASE_LIFE, Lease
from tunesmith.store.database import reading, writing
from tunesmith.store.queries import insert_values, read_all
from tunesmith.store.scope import Scope
from tunesmith.store.tables import LEASES


class SqlLeases(Scope):
    """Each method does what `LeaseStore` says of it, in one transaction."""

    def take_lease(self, name: str, holder: str) -> Lease | None:
        """Take the lease where nobody else holds it; see `Store.take_lease`."""
        now = self._clock.now()
        with writing(self._engine) as connection:
            last = _last(connection, name)
            if last is not None and last.held(now=now) and last.holder != holder:
                return None
            term = last.term + 1 if last else 1
            lease = Lease(name=name, holder=holder, term=term, expires_at=now + LEASE_LIFE)
            connection.execute(delete(LEASES).where(LEASES.c.name == name))
            insert_values(connection, LEASES, lease)
            return lease

    def renew_lease(self, lease: Lease) -> None:
        """Let the lease hold anew; see `Store.renew_lease`."""
        renewal = update(LEASES).where(_is(lease))
        with writing(self._engine) as connection:
            renewed = connection.execute(renewal.values(expires_at=self._clock.now() + LEASE_LIFE))
            if not renewed.rowcount:
                raise LeaseLostError

    def release_lease(self, lease: Lease) -> None:
        """Give the lease back; see `Store.release_lease`."""
        with writing(self._engine) as connection:
            connection.execute(update(LEASES).where(_is(lease)).values(holder="", expires_at=0))

    def lease(self, name: str) -> Lease | None:
        """Return the lease while somebody holds it; see `Store.lease`."""
        with reading(self._engine) as connection:
            last = _last(connection, name)
        return last if last is not None and last.held(now=self._clock.now()) else None


def check_held(connection: Connection, lease: Lease) -> None:
    """Raise `LeaseLostError` unless `lease` is the last of its name until the transaction ends.

    Its expiry does not matter: whoever takes it over then begins another term.
    """
    if connection.scalar(select(LEASES.c.term).where(_is(lease))) is None:
        raise LeaseLostError


def _is(lease: Lease) -> ColumnElement[bool]:
    columns = LEASES.c
    return (
        (columns.name == lease.name)
        & (columns.holder == lease.holder)
        & (columns.term == lease.term)
    )


def _last(connection: Connection, name: str) -> Lease | None:
    query = select(LEASES).where(LEASES.c.name == name)
    return next(iter(read_all(connection, query, kind=Lease)), None)
