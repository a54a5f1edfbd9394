"""How many bytes a project has, and whether there is room for more."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from tunesmith.domain.uploads import UploadStatus
from tunesmith.store import rules
from tunesmith.store.database import reading
from tunesmith.store.scope import Scope
from tunesmith.store.tables import FILES, UPLOADS


class Room(Scope):
    """What adds bytes to a project asks here first, in the transaction that adds them."""

    def bytes_stored(self) -> int:
        """Return the bytes of all files and pending uploads; see `Store.bytes_stored`."""
        with reading(self._engine) as connection:
            return self._bytes(connection)

    def check_room(self, size: int) -> None:
        """Raise `QuotaError` unless the project has room for `size` bytes; see `Store`."""
        with reading(self._engine) as connection:
            self._check_room(connection, size)

    def _check_room(self, connection: Connection, size: int) -> None:
        most = self._limits.max_bytes
        if most is not None:
            rules.check_bytes(self._bytes(connection), size, limit=most)

    def _bytes(self, connection: Connection) -> int:
        pending = (UPLOADS.c.status == UploadStatus.PENDING) & (UPLOADS.c.expires_at > self._now())
        sums = (
            select(func.sum(FILES.c.bytes)).where(self._mine(FILES)),
            select(func.sum(UPLOADS.c.bytes)).where(self._mine(UPLOADS), pending),
        )
        return sum(int(connection.scalar(each) or 0) for each in sums)
