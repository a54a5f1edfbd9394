"""The SQL of what those who watch the service ask for."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, func, select

from tunesmith.domain.events import EventType
from tunesmith.domain.figures import Figures, RunningFigures
from tunesmith.domain.jobs import JobStatus
from tunesmith.domain.liveness import CONTROLLER, STANDBY, Lease, SignOfLife
from tunesmith.store.database import reading
from tunesmith.store.queries import read_all
from tunesmith.store.scope import Scope
from tunesmith.store.tables import EVENTS, JOBS, LEASES, SIGNS_OF_LIFE, WAITS

_WAITS = (JOBS.c.status == JobStatus.QUEUED.value) & JOBS.c.submission_open.is_(False)


class SqlFigures(Scope):
    """Each method does what `FigureStore` says of it, in one transaction."""

    def figures(self) -> Figures:
        """Return how the service stands; see `Store.figures`."""
        counted = select(JOBS.c.status, func.count()).group_by(JOBS.c.status)
        signs = select(SIGNS_OF_LIFE).where(SIGNS_OF_LIFE.c.process == CONTROLLER)
        leases = select(LEASES).where(LEASES.c.name == STANDBY)
        with reading(self._engine) as connection:
            jobs = {JobStatus(status): count for status, count in connection.execute(counted)}
            waiting = connection.scalar(select(func.count()).select_from(JOBS).where(_WAITS))
            return Figures(
                jobs=jobs,
                waiting=waiting or 0,
                head_since=_head_since(connection) if waiting else None,
                running=tuple(_running(connection)),
                controller=next(iter(read_all(connection, signs, kind=SignOfLife)), None),
                standby=any(
                    lease.held(now=self._clock.now())
                    for lease in read_all(connection, leases, kind=Lease)
                ),
            )


def _head_since(connection: Connection) -> int | None:
    """Return when the job that is first in line has told something for the last time."""
    # Who was told nothing yet has just come.
    turn = func.coalesce(WAITS.c.position, 2**62)
    first = (
        select(JOBS.c.id)
        .outerjoin(WAITS, WAITS.c.job_id == JOBS.c.id)
        .where(_WAITS)
        .order_by(turn, JOBS.c.seq)
        .limit(1)
    )
    told = EVENTS.c.job_id == first.scalar_subquery()
    newest = select(EVENTS.c.created_at).where(told).order_by(EVENTS.c.seq.desc()).limit(1)
    return connection.scalar(newest)


def _running(connection: Connection) -> Iterator[RunningFigures]:
    running = JOBS.c.status == JobStatus.RUNNING.value
    query = select(JOBS.c.id, JOBS.c.project).where(running).order_by(JOBS.c.seq)
    # One question each: so many as the cluster runs at once, and each goes by the index.
    for job_id, project in connection.execute(query).all():
        told = (EVENTS.c.job_id == job_id) & (EVENTS.c.type == EventType.METRICS.value)
        last = select(EVENTS.c.data).where(told).order_by(EVENTS.c.seq.desc()).limit(1)
        data = connection.scalar(last)
        if data is not None:
            yield RunningFigures(
                job_id=job_id,
                project=project,
                valid_loss=data.get("valid_loss"),
                **{
                    name: data[name]
                    for name in ("step", "total_steps", "train_loss", "tokens_per_second")
                },
            )
