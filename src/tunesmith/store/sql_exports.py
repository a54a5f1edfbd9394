"""The SQL of exports."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select, update

from tunesmith.domain.errors import StaleJobError
from tunesmith.domain.exports import Export, ExportStatus
from tunesmith.domain.values import Page
from tunesmith.store import model_rules
from tunesmith.store.database import reading, writing
from tunesmith.store.queries import (
    behind,
    insert_values,
    place_of,
    read_all,
    read_one,
    read_page,
)
from tunesmith.store.rows import to_row
from tunesmith.store.sql_lookup import ModelLookup
from tunesmith.store.tables import EXPORTS

_OPEN = [status.value for status in ExportStatus if not status.ended]


def open_export() -> ColumnElement[bool]:
    """Return the condition that an export has not ended, or that its process may be alive."""
    return or_(EXPORTS.c.status.in_(_OPEN), EXPORTS.c.submission_open)


class SqlExports(ModelLookup):
    """Each method does what `ExportStore` says of it, in one transaction."""

    def add_export(self, export: Export) -> Export:
        """Add a queued export; see `Store.add_export`."""
        with writing(self._engine) as connection:
            model = self._startable(connection, export.model)
            if self._project not in (None, model.project):
                raise model_rules.foreign_export(model.name)
            added = export.model_copy(
                update={"job_id": model.job_id, "key": model.key, "project": model.project}
            )
            insert_values(connection, EXPORTS, added)
        return added

    def export(self, export_id: str) -> Export:
        """Return the export of that id; see `Store.export`."""
        with reading(self._engine) as connection:
            return self._export(connection, export_id)

    def list_exports(self, *, after: str | None, limit: int) -> Page[Export]:
        """Return exports, newest first; see `Store.list_exports`."""
        mine = self._mine(EXPORTS)
        with reading(self._engine) as connection:
            place = place_of(connection, EXPORTS, after=after, seen=mine)
            query = behind(select(EXPORTS).where(mine), EXPORTS.c.seq, place=place)
            return read_page(connection, query, kind=Export, limit=limit)

    def open_exports(self) -> list[Export]:
        """Return the exports that are not over; see `Store.open_exports`."""
        query = select(EXPORTS).where(open_export(), self._mine(EXPORTS)).order_by(EXPORTS.c.seq)
        with reading(self._engine) as connection:
            return read_all(connection, query, kind=Export)

    def change_export(self, seen: Export, changed: Export) -> Export:
        """Put `changed` in the place of the export as it was seen; see `Store`."""
        unchanged = (
            (EXPORTS.c.id == seen.id)
            & (EXPORTS.c.status == seen.status.value)
            & (EXPORTS.c.attempt == seen.attempt)
        )
        with writing(self._engine) as connection:
            done = connection.execute(
                update(EXPORTS).where(unchanged, self._mine(EXPORTS)).values(to_row(changed))
            )
            if done.rowcount != 1:
                raise StaleJobError(f"Export '{seen.id}' is no longer {seen.status}.")
        return changed

    def cancel_export(self, export_id: str, *, now: int) -> Export:
        """Cancel the export; see `Store.cancel_export`."""
        with writing(self._engine) as connection:
            export = self._export(connection, export_id)
            if export.status.ended:
                raise model_rules.export_ended(export)
            changes = {"status": ExportStatus.CANCELLED, "finished_at": now}
            cancelled = export.model_copy(update=changes)
            here = EXPORTS.c.id == export_id
            connection.execute(update(EXPORTS).where(here).values(to_row(cancelled)))
        return cancelled

    def delete_export(self, export_id: str) -> Export:
        """Forget the export; see `Store.delete_export`."""
        with writing(self._engine) as connection:
            export = self._export(connection, export_id)
            if not export.status.ended or export.submission_open:
                raise model_rules.export_running(export)
            connection.execute(delete(EXPORTS).where(EXPORTS.c.id == export_id))
        return export

    def exports_of(self, model: str) -> list[Export]:
        """Return the exports of a model; see `Store.exports_of`."""
        checkpoints = f"{model}:ckpt-step-"
        # `LIKE` takes capital and small letters for the same on SQLite.
        beginning = func.substr(EXPORTS.c.model, 1, len(checkpoints))
        theirs = or_(EXPORTS.c.model == model, beginning == checkpoints)
        with reading(self._engine) as connection:
            query = select(EXPORTS).where(theirs, self._mine(EXPORTS)).order_by(EXPORTS.c.seq)
            return read_all(connection, query, kind=Export)

    def _export(self, connection: Connection, export_id: str) -> Export:
        query = select(EXPORTS).where(EXPORTS.c.id == export_id, self._mine(EXPORTS))
        missing = model_rules.no_export(export_id)
        return read_one(connection, query, kind=Export, missing=missing)
