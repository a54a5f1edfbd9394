"""The store in an SQL database: SQLite in its write-ahead-log mode, other ones by their URL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Literal

from sqlalchemy import Connection, Select, Table, delete, or_, select, update

from tunesmith.domain.clock import Clock
from tunesmith.domain.events import Checkpoint, Event, EventLevel, RunEvent
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.jobs import Job, JobChange, JobStatus
from tunesmith.domain.models import TunedModel
from tunesmith.domain.uploads import Upload, UploadPart
from tunesmith.domain.values import Page
from tunesmith.store import rules
from tunesmith.store.database import open_database, reading, writing
from tunesmith.store.queries import behind, insert_values, read_all, read_one, read_page
from tunesmith.store.rows import from_row, to_row
from tunesmith.store.schema import upgrade
from tunesmith.store.tables import (
    CHECKPOINTS,
    EVENTS,
    FILES,
    JOBS,
    TUNED_MODELS,
    UPLOAD_PARTS,
    UPLOADS,
)


class SqlStore:
    """Keeps everything in one database, which several processes and threads may share.

    Each method does what `Store` says of it, in one transaction.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        """Open the database at `url`, a URL of SQLAlchemy's, and bring its schema up to date.

        `clock` dates what the store adds of its own. Raises `SettingsError`
        where the database cannot be used.
        """
        upgrade(url)
        self._engine = open_database(url)
        self._clock = clock

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._engine.dispose()

    def add_file(self, file: File) -> None:
        """Add a file; see `Store.add_file`."""
        with writing(self._engine) as connection:
            insert_values(connection, FILES, file)

    def file(self, file_id: str) -> File:
        """Return the file of that id; see `Store.file`."""
        with reading(self._engine) as connection:
            return _file(connection, file_id)

    def newest_file_named(self, filename: str) -> File:
        """Return the newest training file of that name; see `Store.newest_file_named`."""
        named = select(FILES).where(FILES.c.filename == filename)
        named = named.order_by(FILES.c.seq.desc()).limit(1)
        fit = named.where(FILES.c.purpose == Purpose.FINE_TUNE)
        with reading(self._engine) as connection:
            for file in read_all(connection, fit, kind=File):
                return file
            missing = rules.no_file_named(filename)
            return read_one(connection, named, kind=File, missing=missing)

    def list_files(
        self,
        *,
        purpose: Purpose | None,
        after: str | None,
        limit: int,
        order: Literal["asc", "desc"],
    ) -> Page[File]:
        """Return files in the order of their creation; see `Store.list_files`."""
        query = select(FILES)
        if purpose is not None:
            query = query.where(FILES.c.purpose == purpose)
        with reading(self._engine) as connection:
            query = behind(connection, query, table=FILES, after=after, order=order)
            return read_page(connection, query, kind=File, limit=limit)

    def deletable_file(self, file_id: str) -> File:
        """Return the file if it may be deleted; see `Store.deletable_file`."""
        with reading(self._engine) as connection:
            return _deletable_file(connection, file_id)

    def delete_file(self, file_id: str) -> File:
        """Remove the file and return it; see `Store.delete_file`."""
        with writing(self._engine) as connection:
            file = _deletable_file(connection, file_id)
            connection.execute(delete(FILES).where(FILES.c.id == file_id))
            return file

    def add_upload(self, upload: Upload) -> None:
        """Add a pending upload; see `Store.add_upload`."""
        with writing(self._engine) as connection:
            insert_values(connection, UPLOADS, upload)

    def pending_upload(self, upload_id: str) -> Upload:
        """Return the upload if it still takes parts; see `Store.pending_upload`."""
        with reading(self._engine) as connection:
            return _pending(connection, upload_id, now=self._now())

    def add_part(self, part: UploadPart) -> None:
        """Add a part; see `Store.add_part`."""
        with writing(self._engine) as connection:
            _pending(connection, part.upload_id, now=self._now(), lock=True)
            insert_values(connection, UPLOAD_PARTS, part)

    def list_parts(self, upload_id: str) -> list[UploadPart]:
        """Return all parts of the upload; see `Store.list_parts`."""
        query = select(UPLOAD_PARTS).where(UPLOAD_PARTS.c.upload_id == upload_id)
        with reading(self._engine) as connection:
            return read_all(connection, query.order_by(UPLOAD_PARTS.c.seq), kind=UploadPart)

    def complete_upload(self, upload_id: str, file: File) -> Upload:
        """Add the file that the upload has become; see `Store.complete_upload`."""
        with writing(self._engine) as connection:
            pending = _pending(connection, upload_id, now=self._now(), lock=True)
            insert_values(connection, FILES, file)
            return _end(connection, rules.completed(pending, file))

    def cancel_upload(self, upload_id: str) -> Upload:
        """Cancel the upload; see `Store.cancel_upload`."""
        with writing(self._engine) as connection:
            pending = _pending(connection, upload_id, now=self._now(), lock=True)
            return _end(connection, rules.cancelled(pending))

    def add_job(self, job: Job) -> None:
        """Add a job, with its first event; see `Store.add_job`."""
        with writing(self._engine) as connection:
            insert_values(connection, JOBS, job)
            insert_values(connection, EVENTS, rules.creation_event(job))

    def job(self, job_id: str) -> Job:
        """Return the job of that id; see `Store.job`."""
        with reading(self._engine) as connection:
            return _job(connection, job_id)

    def list_jobs(
        self, *, after: str | None, limit: int, metadata: Mapping[str, str] | None = None
    ) -> Page[Job]:
        """Return jobs, newest first; see `Store.list_jobs`."""
        with reading(self._engine) as connection:
            query = behind(connection, select(JOBS), table=JOBS, after=after)
            if metadata is None:
                return read_page(connection, query, kind=Job, limit=limit)
            # Databases differ in how they look into JSON, and SQLite cannot name each key there.
            jobs = (from_row(Job, row) for row in connection.execute(query).mappings())
            labelled = (job for job in jobs if rules.labelled(job, metadata))
            found = tuple(islice(labelled, limit + 1))
            return Page(items=found[:limit], has_more=len(found) > limit)

    def open_jobs(self) -> list[Job]:
        """Return the jobs that are unfinished or hold a submission; see `Store.open_jobs`."""
        is_open = or_(JOBS.c.status.in_(rules.UNFINISHED), JOBS.c.submission_open)
        with reading(self._engine) as connection:
            query = select(JOBS).where(is_open).order_by(JOBS.c.seq)
            return read_all(connection, query, kind=Job)

    def change_job(
        self,
        seen: Job,
        change: JobChange,
        *,
        message: str | None = None,
        level: EventLevel = EventLevel.INFO,
    ) -> Job:
        """Apply `change` to the job as it was seen; see `Store.change_job`."""
        now = self._now()
        events = rules.change_events(seen.id, change, message=message, level=level, at=now)
        with writing(self._engine) as connection:
            return _change(connection, seen, change=change, events=events, now=now)

    def finish_job(self, seen: Job, change: JobChange, *, model: TunedModel, results: File) -> Job:
        """Change the job to succeeded and add what it made; see `Store.finish_job`."""
        now = self._now()
        success = rules.finishing(change, model, results=results)
        events = rules.finish_events(seen.id, model, at=now)
        with writing(self._engine) as connection:
            job = _change(connection, seen, change=success, events=events, now=now)
            insert_values(connection, TUNED_MODELS, model)
            insert_values(connection, FILES, results)
            return job

    def cancel_job(self, job_id: str, *, now: int) -> Job:
        """Cancel the job at the time `now`; see `Store.cancel_job`."""
        change = JobChange(status=JobStatus.CANCELLED, finished_at=now)
        events = [rules.cancellation_event(job_id, at=now)]
        with writing(self._engine) as connection:
            job = _job(connection, job_id, lock=True)
            return _change(connection, job, change=change, events=events, now=now)

    def ingest(
        self, job_id: str, events: Sequence[RunEvent], *, checkpoints: Sequence[Checkpoint]
    ) -> None:
        """Add a run's events and checkpoints, each once; see `Store.ingest`."""
        known_steps = select(CHECKPOINTS.c.step).where(CHECKPOINTS.c.job_id == job_id)
        with writing(self._engine) as connection:
            before = _job(connection, job_id, lock=True)
            job, shown = rules.ingested(before, events)
            if job != before:
                _update(connection, job)
            insert_values(connection, EVENTS, *shown)
            fresh = rules.new_checkpoints(connection.scalars(known_steps), checkpoints)
            insert_values(connection, CHECKPOINTS, *fresh)

    def list_events(self, job_id: str, *, after: str | None, limit: int) -> Page[Event]:
        """Return the job's events, newest first; see `Store.list_events`."""
        with reading(self._engine) as connection:
            query = _of_job(connection, EVENTS, job_id=job_id, after=after)
            return read_page(connection, query, kind=Event, limit=limit)

    def list_checkpoints(self, job_id: str, *, after: str | None, limit: int) -> Page[Checkpoint]:
        """Return the job's checkpoints, newest first; see `Store.list_checkpoints`."""
        with reading(self._engine) as connection:
            query = _of_job(connection, CHECKPOINTS, job_id=job_id, after=after)
            return read_page(connection, query, kind=Checkpoint, limit=limit)

    def drop_checkpoints(self, job_id: str, *, keep: Sequence[int]) -> None:
        """Forget the job's checkpoints but for `keep`; see `Store.drop_checkpoints`."""
        dropped = (CHECKPOINTS.c.job_id == job_id) & CHECKPOINTS.c.step.not_in(keep)
        with writing(self._engine) as connection:
            _job(connection, job_id)
            connection.execute(delete(CHECKPOINTS).where(dropped))

    def list_tuned_models(self) -> list[TunedModel]:
        """Return all tuned models, newest first; see `Store.list_tuned_models`."""
        query = select(TUNED_MODELS).order_by(TUNED_MODELS.c.seq.desc())
        with reading(self._engine) as connection:
            return read_all(connection, query, kind=TunedModel)

    def tuned_model(self, name: str) -> TunedModel:
        """Return the tuned model of that name; see `Store.tuned_model`."""
        with reading(self._engine) as connection:
            return _model(connection, name)

    def delete_tuned_model(self, name: str) -> TunedModel:
        """Forget the tuned model of that name; see `Store.delete_tuned_model`."""
        with writing(self._engine) as connection:
            model = _model(connection, name)
            ours = CHECKPOINTS.c.job_id == model.job_id
            connection.execute(delete(CHECKPOINTS).where(ours))
            connection.execute(delete(TUNED_MODELS).where(TUNED_MODELS.c.name == name))
            return model

    def _now(self) -> int:
        return int(self._clock.now())


def _file(connection: Connection, file_id: str) -> File:
    query = select(FILES).where(FILES.c.id == file_id)
    return read_one(connection, query, kind=File, missing=rules.no_file(file_id))


def _deletable_file(connection: Connection, file_id: str) -> File:
    file = _file(connection, file_id)
    needs = or_(JOBS.c.training_file == file_id, JOBS.c.validation_file == file_id)
    unfinished = JOBS.c.status.in_(rules.UNFINISHED)
    needing = select(JOBS.c.id).where(unfinished & needs).order_by(JOBS.c.seq)
    if job_ids := connection.scalars(needing).all():
        raise rules.file_in_use(file_id, job_ids)
    return file


def _pending(connection: Connection, upload_id: str, *, now: int, lock: bool = False) -> Upload:
    query = select(UPLOADS).where(UPLOADS.c.id == upload_id)
    if lock:
        query = query.with_for_update()
    upload = read_one(connection, query, kind=Upload, missing=rules.no_upload(upload_id))
    rules.check_pending(upload, now=now)
    return upload


def _end(connection: Connection, upload: Upload) -> Upload:
    connection.execute(update(UPLOADS).where(UPLOADS.c.id == upload.id).values(to_row(upload)))
    return upload


def _job(connection: Connection, job_id: str, *, lock: bool = False) -> Job:
    query = select(JOBS).where(JOBS.c.id == job_id)
    if lock:
        # SQLite's writers have locked the whole database already and ignore this.
        query = query.with_for_update()
    return read_one(connection, query, kind=Job, missing=rules.no_job(job_id))


def _model(connection: Connection, name: str) -> TunedModel:
    query = select(TUNED_MODELS).where(TUNED_MODELS.c.name == name)
    return read_one(connection, query, kind=TunedModel, missing=rules.no_model(name))


def _of_job(connection: Connection, table: Table, *, job_id: str, after: str | None) -> Select[Any]:
    _job(connection, job_id)
    query = select(table).where(table.c.job_id == job_id)
    return behind(connection, query, table=table, after=after)


def _change(
    connection: Connection, seen: Job, *, change: JobChange, events: Sequence[Event], now: int
) -> Job:
    job = _job(connection, seen.id, lock=True)
    rules.check_seen(job, seen)
    after = rules.changed(job, change, now=now)
    _update(connection, after)
    insert_values(connection, EVENTS, *events)
    return after


def _update(connection: Connection, job: Job) -> None:
    connection.execute(update(JOBS).where(JOBS.c.id == job.id).values(to_row(job)))
