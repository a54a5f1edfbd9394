"""The SQL of jobs, their events and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import (
    Connection,
    Select,
    Table,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from tunesmith.domain.events import Checkpoint, Event, EventLevel, EventType, News, RunEvent, Told
from tunesmith.domain.files import File
from tunesmith.domain.idempotency import IdempotencyKey
from tunesmith.domain.jobs import Job, JobChange, JobStatus
from tunesmith.domain.models import TunedModel
from tunesmith.domain.projects import DEFAULT_PROJECT
from tunesmith.domain.values import Page
from tunesmith.store import rules, statements
from tunesmith.store.database import reading, writing
from tunesmith.store.kept import MOVING
from tunesmith.store.queries import behind, insert_values, place_of, read_all, read_page
from tunesmith.store.rows import from_row, to_row
from tunesmith.store.sql_idempotency import drop_old_keys, first_job, remember_key
from tunesmith.store.sql_lookup import ModelLookup
from tunesmith.store.sql_webhooks import announce_end
from tunesmith.store.tables import CHECKPOINTS, EVENTS, FILES, JOB_LABELS, JOBS, TUNED_MODELS

_Told = TypeVar("_Told", Event, Checkpoint)

_MARK = [JOBS.c.seq, *(column for column in JOBS.c if column.name in MOVING)]
"""What tells that an open job has changed: all else changes along with one of these, or never."""

_AT_ONCE = 1000
"""Rows that a statement names."""


class SqlJobs(ModelLookup):
    """Each method does what `JobStore` says of it, in one transaction."""

    def add_job(self, job: Job, *, key: IdempotencyKey | None = None) -> Job:
        """Add a job, with its first event; see `Store.add_job`."""
        owned = self._owned(job)
        with writing(self._engine) as connection:
            first = self._job_of_key(connection, key, project=owned.project) if key else None
            if first is not None:
                return first
            self._check_job_limit(connection)
            if owned.start_from is not None:
                self._startable(connection, owned.start_from.name)
            self._check_files(connection, owned)
            insert_values(connection, JOBS, owned)
            _insert_labels(connection, owned)
            insert_values(connection, EVENTS, rules.creation_event(job))
            if key is not None:
                remember_key(connection, key, job=owned, now=self._now())
            return owned

    def job_of_key(self, key: IdempotencyKey) -> Job | None:
        """Return the job that a request with `key` has created; see `Store.job_of_key`."""
        with reading(self._engine) as connection:
            return self._job_of_key(connection, key, project=self._project or DEFAULT_PROJECT)

    def drop_idempotency_keys(self) -> int:
        """Forget the idempotency keys of yesterday; see `Store.drop_idempotency_keys`."""
        with writing(self._engine) as connection:
            return drop_old_keys(connection, now=self._now())

    def job(self, job_id: str) -> Job:
        """Return the job of that id; see `Store.job`."""
        with reading(self._engine) as connection:
            return self._job(connection, job_id)

    def list_jobs(
        self, *, after: str | None, limit: int, metadata: Mapping[str, str] | None = None
    ) -> Page[Job]:
        """Return jobs, newest first; see `Store.list_jobs`."""
        scoped = self._project is not None
        given: dict[str, Any] = {"project": self._project} if scoped else {}
        with reading(self._engine) as connection:
            if after is not None:
                place = connection.scalar(
                    statements.job_place(scoped=scoped), given | {"id": after}
                )
                if place is None:
                    raise rules.unknown_cursor(after)
                given |= {"place": place}
            query, labels = self._listing(connection, metadata, placed=after is not None)
            numbers = connection.scalars(query, given | labels | {"most": limit + 1}).all()
            jobs = self._numbered(connection, numbers[:limit])
        return Page(items=tuple(jobs), has_more=len(numbers) > limit)

    def open_jobs(self) -> list[Job]:
        """Return the jobs that are unfinished or hold a submission; see `Store.open_jobs`."""
        is_open = or_(JOBS.c.status.in_(rules.UNFINISHED), JOBS.c.submission_open)
        query = select(*_MARK).where(self._mine(JOBS), is_open).order_by(JOBS.c.seq)
        with reading(self._engine) as connection:
            marks = [(row[0], tuple(row[1:])) for row in connection.execute(query)]
            return self._kept.open.renew(marks, partial(_jobs_at, connection))

    def jobs_ended_since(self, at: int) -> list[Job]:
        """Return the jobs that have ended since then; see `Store.jobs_ended_since`."""
        lately = JOBS.c.finished_at >= at
        query = select(JOBS).where(self._mine(JOBS), lately).order_by(JOBS.c.finished_at)
        with reading(self._engine) as connection:
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
            return self._change(connection, seen, change=change, events=events, now=now)

    def finish_job(self, seen: Job, change: JobChange, *, model: TunedModel, results: File) -> Job:
        """Change the job to succeeded and add what it made; see `Store.finish_job`."""
        now = self._now()
        success = rules.finishing(change, model, results=results)
        events = rules.finish_events(seen.id, model, at=now)
        with writing(self._engine) as connection:
            job = self._change(connection, seen, change=success, events=events, now=now)
            owned = {"project": job.project}
            insert_values(connection, TUNED_MODELS, model.model_copy(update=owned))
            insert_values(connection, FILES, results.model_copy(update=owned))
            return job

    def cancel_job(self, job_id: str, *, now: int) -> Job:
        """Cancel the job at the time `now`; see `Store.cancel_job`."""
        change = JobChange(status=JobStatus.CANCELLED, finished_at=now)
        events = [rules.cancellation_event(job_id, at=now)]
        with writing(self._engine) as connection:
            job = self._job(connection, job_id)
            return self._change(connection, job, change=change, events=events, now=now)

    def pause_job(self, job_id: str) -> Job:
        """Pause the job; see `Store.pause_job`."""
        return self._move(job_id, rules.pausing, told=rules.pause_event)

    def resume_job(self, job_id: str) -> Job:
        """Put the job back into the queue; see `Store.resume_job`."""
        return self._move(job_id, rules.resuming, told=rules.resume_event)

    def ingest(
        self, job_id: str, events: Sequence[RunEvent], *, checkpoints: Sequence[Checkpoint]
    ) -> None:
        """Add a run's events and checkpoints, each once; see `Store.ingest`."""
        known_steps = select(CHECKPOINTS.c.step).where(CHECKPOINTS.c.job_id == job_id)
        with writing(self._engine) as connection:
            before = self._job(connection, job_id)
            job, shown = rules.ingested(before, events)
            if job != before:
                _update(connection, job)
            insert_values(connection, EVENTS, *shown)
            fresh = rules.new_checkpoints(connection.scalars(known_steps), checkpoints)
            insert_values(connection, CHECKPOINTS, *fresh)

    def list_events(self, job_id: str, *, after: str | None, limit: int) -> Page[Event]:
        """Return the job's events, newest first; see `Store.list_events`."""
        with reading(self._engine) as connection:
            return self._page_of_job(
                connection, EVENTS, kind=Event, job_id=job_id, after=after, limit=limit
            )

    def job_metrics(self, job_id: str) -> list[dict[str, Any]]:
        """Return the numbers of the job's steps; see `Store.job_metrics`."""
        told = (EVENTS.c.job_id == job_id) & (EVENTS.c.type == EventType.METRICS.value)
        with reading(self._engine) as connection:
            self._job_number(connection, job_id)
            query = select(EVENTS.c.data).where(told).order_by(EVENTS.c.seq)
            by_step = {data["step"]: data for data in connection.scalars(query)}
        return [by_step[step] for step in sorted(by_step)]

    def events_behind(self, job_id: str, *, after: str | None, limit: int) -> Told:
        """Return the job's events behind `after`, oldest first; see `Store.events_behind`."""
        ours = EVENTS.c.job_id == job_id
        with reading(self._engine) as connection:
            # Read before the events: what was told before it ended is then among them.
            job = self._job(connection, job_id)
            place = place_of(connection, EVENTS, after=after, seen=ours)
            query = behind(select(EVENTS).where(ours), EVENTS.c.seq, place=place, order="asc")
            page = read_page(connection, query, kind=Event, limit=limit)
        return Told(events=page.items, ended=rules.told_all(job) and not page.has_more)

    def news(self, *, behind: int | None) -> News:
        """Return the jobs with events behind `behind`; see `Store.news`."""
        place, ids = EVENTS.c.seq, select(EVENTS.c.job_id).distinct()
        with reading(self._engine) as connection:
            newest = connection.scalar(select(func.max(place))) or 0
            fresh = ids.where(place > behind, place <= newest) if behind is not None else None
            found = connection.scalars(fresh) if fresh is not None else ()
            return News(newest=newest, job_ids=frozenset(found))

    def list_checkpoints(self, job_id: str, *, after: str | None, limit: int) -> Page[Checkpoint]:
        """Return the job's checkpoints, newest first; see `Store.list_checkpoints`."""
        with reading(self._engine) as connection:
            return self._page_of_job(
                connection, CHECKPOINTS, kind=Checkpoint, job_id=job_id, after=after, limit=limit
            )

    def drop_checkpoints(self, job_id: str, *, keep: Sequence[int]) -> None:
        """Forget the job's checkpoints but for `keep`; see `Store.drop_checkpoints`."""
        dropped = (CHECKPOINTS.c.job_id == job_id) & CHECKPOINTS.c.step.not_in(keep)
        with writing(self._engine) as connection:
            self._job(connection, job_id)
            connection.execute(delete(CHECKPOINTS).where(dropped))

    def _job_of_key(
        self, connection: Connection, key: IdempotencyKey, *, project: str
    ) -> Job | None:
        job_id = first_job(connection, key, project=project, now=self._now())
        return self._job(connection, job_id) if job_id else None

    def _check_job_limit(self, connection: Connection) -> None:
        if self._limits.max_jobs is None:
            return
        unfinished = self._mine(JOBS) & JOBS.c.status.in_(rules.UNFINISHED)
        count = select(func.count()).select_from(JOBS).where(unfinished)
        rules.check_job_limit(connection.scalar(count) or 0, limit=self._limits.max_jobs)

    def _listing(
        self, connection: Connection, metadata: Mapping[str, str] | None, *, placed: bool
    ) -> tuple[Select[Any], dict[str, str]]:
        """Return the statement of the numbers of jobs with `metadata`, and its labels by name."""
        scoped = self._project is not None
        if metadata is None:
            return statements.job_numbers(scoped=scoped, placed=placed), {}
        if not metadata:
            return statements.unlabelled_numbers(scoped=scoped, placed=placed), {}
        labels = list(metadata.items())
        if len(labels) > 1:
            labels.sort(key=lambda label: self._some(connection, label))
        query = statements.labelled_numbers(len(labels), scoped=scoped, placed=placed)
        return query, _named(labels)

    def _some(self, connection: Connection, label: tuple[str, str]) -> int:
        """Return how many jobs carry `label`, or `statements.MANY` where it is more."""
        scoped = self._project is not None
        given: dict[str, Any] = {"project": self._project} if scoped else {}
        counted = statements.label_count(scoped=scoped)
        return int(connection.scalar(counted, given | _named([label])) or 0)

    def _numbered(self, connection: Connection, numbers: Sequence[int]) -> list[Job]:
        """Return the jobs of the rows `numbers`, in that order."""
        jobs = self._kept.ended.known(numbers)
        if missing := [number for number in numbers if number not in jobs]:
            read = _jobs_at(connection, missing)
            self._kept.ended.keep(read)
            jobs |= read
        return [jobs[number] for number in numbers]

    def _page_of_job(
        self,
        connection: Connection,
        table: Table,
        *,
        kind: type[_Told],
        job_id: str,
        after: str | None,
        limit: int,
    ) -> Page[_Told]:
        """Return the newest values of the job, of type `kind`, that `table` keeps."""
        self._job_number(connection, job_id)
        given: dict[str, Any] = {"job_id": job_id}
        if after is not None:
            found = statements.place_in_job(table)
            given |= {"place": _place(connection, found, given=given | {"id": after})}
        query = statements.page_of_job(table, placed=after is not None)
        rows = connection.execute(query, given | {"most": limit + 1}).mappings()
        values = [from_row(kind, row) for row in rows]
        return Page(items=tuple(values[:limit]), has_more=len(values) > limit)

    def _move(
        self, job_id: str, change: Callable[[Job], JobChange], *, told: Callable[..., Event]
    ) -> Job:
        """Change the job as it is now, with the event that `told` makes of its id and the time."""
        now = self._now()
        with writing(self._engine) as connection:
            job = self._job(connection, job_id)
            events = [told(job_id, at=now)]
            return self._change(connection, job, change=change(job), events=events, now=now)

    def _check_files(self, connection: Connection, job: Job) -> None:
        """Raise `NotFoundError` unless the files of `job` are there, from now on until it ends."""
        wanted = {"training_file": job.training_file, "validation_file": job.validation_file}
        ids = {key: file_id for key, file_id in wanted.items() if file_id is not None}
        query = select(FILES.c.id).where(self._there(), FILES.c.id.in_(ids.values()))
        there = set(connection.scalars(query))
        for key, file_id in ids.items():
            if file_id not in there:
                raise rules.no_file_for_job(file_id, key)

    def _change(
        self,
        connection: Connection,
        seen: Job,
        *,
        change: JobChange,
        events: Sequence[Event],
        now: int,
    ) -> Job:
        job = self._job(connection, seen.id)
        rules.check_seen(job, seen)
        after = rules.changed(job, change, now=now)
        _update(connection, after)
        insert_values(connection, EVENTS, *events)
        if after.status.terminal and not job.status.terminal:
            announce_end(connection, after, at=now)
        return after


def _jobs_at(connection: Connection, numbers: Sequence[int]) -> dict[int, Job]:
    """Return the jobs of the rows `numbers`, by these."""
    read: dict[int, Job] = {}
    for begin in range(0, len(numbers), _AT_ONCE):
        query = select(JOBS).where(JOBS.c.seq.in_(numbers[begin : begin + _AT_ONCE]))
        rows = connection.execute(query).mappings()
        read |= {row[JOBS.c.seq]: from_row(Job, row) for row in rows}
    return read


def _place(connection: Connection, query: Select[Any], *, given: dict[str, Any]) -> int:
    """Return what `query` finds by `given`; raises `InvalidRequestError` for an unknown cursor."""
    place = connection.scalar(query, given)
    if place is None:
        raise rules.unknown_cursor(given["id"])
    return int(place)


def _named(labels: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return `labels` as `statements` names them."""
    keys = {f"key_{number}": key for number, (key, _) in enumerate(labels)}
    return keys | {f"value_{number}": value for number, (_, value) in enumerate(labels)}


def _insert_labels(connection: Connection, job: Job) -> None:
    number = connection.scalar(select(JOBS.c.seq).where(JOBS.c.id == job.id))
    rows = [
        {"job_seq": number, "key": key, "value": value, "project": job.project}
        for key, value in (job.request.metadata or {}).items()
    ]
    if rows:
        connection.execute(insert(JOB_LABELS), rows)


def _update(connection: Connection, job: Job) -> None:
    connection.execute(update(JOBS).where(JOBS.c.id == job.id).values(to_row(job)))
