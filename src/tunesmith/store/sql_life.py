"""The SQL of the signs of life."""

from __future__ import annotations

from sqlalchemy import delete, insert, select

from tunesmith.domain.liveness import SignOfLife
from tunesmith.store.database import reading, writing
from tunesmith.store.queries import read_all
from tunesmith.store.rows import to_row
from tunesmith.store.scope import Scope
from tunesmith.store.tables import SIGNS_OF_LIFE


class SqlLife(Scope):
    """Each method does what `LifeStore` says of it, in one transaction."""

    def give_sign(self, sign: SignOfLife) -> None:
        """Keep the sign; see `Store.give_sign`."""
        with writing(self._engine) as connection:
            last = SIGNS_OF_LIFE.c.process == sign.process
            connection.execute(delete(SIGNS_OF_LIFE).where(last))
            connection.execute(insert(SIGNS_OF_LIFE).values(to_row(sign)))

    def last_sign(self, process: str) -> SignOfLife | None:
        """Return the last sign of `process`; see `Store.last_sign`."""
        query = select(SIGNS_OF_LIFE).where(SIGNS_OF_LIFE.c.process == process)
        with reading(self._engine) as connection:
            return next(iter(read_all(connection, query, kind=SignOfLife)), None)
