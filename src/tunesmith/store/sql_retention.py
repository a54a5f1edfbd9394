"""The SQL of what has grown old."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, delete, exists, func, select

from tunesmith.domain.events import EventType
from tunesmith.domain.exports import Export
from tunesmith.domain.files import UPLOADABLE, File
from tunesmith.store import rules
from tunesmith.store.database import reading, writing
from tunesmith.store.queries import insert_values, read_all, read_one
from tunesmith.store.scope import Scope
from tunesmith.store.sql_exports import open_export
from tunesmith.store.sql_files import remove
from tunesmith.store.tables import CHECKPOINTS, EVENTS, EXPORTS, FILES, JOBS


class SqlRetention(Scope):
    """Each method does what `RetentionStore` says of it; the first is a transaction a job."""

    def drop_old_metrics(self, *, ended_before: int, limit: int) -> int:
        """Drop the metrics events of old jobs; see `Store.drop_old_metrics`."""
        metrics = EVENTS.c.type == EventType.METRICS
        told = exists().where(EVENTS.c.job_id == JOBS.c.id, metrics)
        ended = (JOBS.c.finished_at < ended_before) & ~JOBS.c.submission_open
        query = select(JOBS.c.id).where(self._mine(JOBS), ended, told)
        with reading(self._engine) as connection:
            job_ids = connection.scalars(query.order_by(JOBS.c.seq).limit(limit)).all()
        for job_id in job_ids:
            # One at a time, so that no other writer waits long.
            with writing(self._engine) as connection:
                old = delete(EVENTS).where(EVENTS.c.job_id == job_id, metrics)
                count = connection.execute(old).rowcount
                message = (
                    f"{count} metrics events were dropped, since the job ended long ago; its "
                    "result file keeps the numbers"
                )
                insert_values(connection, EVENTS, rules.new_event(job_id, message, at=self._now()))
        return len(job_ids)

    def jobs_with_checkpoints(self, *, ended_before: int) -> list[str]:
        """Return old jobs with several checkpoints; see `Store.jobs_with_checkpoints`."""
        ended = (JOBS.c.finished_at < ended_before) & ~JOBS.c.submission_open
        query = (
            select(JOBS.c.id)
            .join(CHECKPOINTS, CHECKPOINTS.c.job_id == JOBS.c.id)
            .where(self._mine(JOBS), ended)
            .group_by(JOBS.c.id, JOBS.c.seq)
            .having(func.count() > 1)
            .order_by(JOBS.c.seq)
        )
        with reading(self._engine) as connection:
            return list(connection.scalars(query))

    def unused_files(self, *, unused_since: int, limit: int) -> list[File]:
        """Return files that no job has used since; see `Store.unused_files`."""
        query = self._unused(unused_since).order_by(FILES.c.seq).limit(limit)
        with reading(self._engine) as connection:
            return read_all(connection, query, kind=File)

    def old_exports(self, *, ended_before: int, limit: int) -> list[Export]:
        """Return exports that ended before; see `Store.old_exports`."""
        ended = (EXPORTS.c.finished_at < ended_before) & ~open_export()
        query = select(EXPORTS).where(self._mine(EXPORTS), ended).order_by(EXPORTS.c.seq)
        with reading(self._engine) as connection:
            return read_all(connection, query.limit(limit), kind=Export)

    def drop_unused_file(self, file_id: str, *, unused_since: int) -> bool:
        """Remove a file that no job has used since; see `Store.drop_unused_file`."""
        query = self._unused(unused_since).where(FILES.c.id == file_id)
        missing = rules.no_file(file_id)
        with writing(self._engine) as connection:
            return remove(connection, read_one(connection, query, kind=File, missing=missing))

    def _unused(self, since: int) -> Select[Any]:
        # A job that has not ended has no time at which it did.
        uses = (JOBS.c.finished_at >= since) | JOBS.c.status.in_(rules.UNFINISHED)
        # Read once for all files, unlike a question for each.
        training = select(JOBS.c.training_file).where(uses)
        validation = select(JOBS.c.validation_file).where(uses, JOBS.c.validation_file.is_not(None))
        return select(FILES).where(
            self._mine(FILES),
            FILES.c.created_at < since,
            FILES.c.purpose.in_(UPLOADABLE),
            FILES.c.id.not_in(training),
            FILES.c.id.not_in(validation),
        )
