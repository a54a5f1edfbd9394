"""What each part of the SQL store begins with: the database, the clock, and whose rows it sees."""

from __future__ import annotations

from typing import TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    FromClause,
    exists,
    or_,
    true,
)

from tunesmith.domain.clock import Clock
from tunesmith.domain.jobs import Job
from tunesmith.domain.projects import Limits
from tunesmith.domain.values import Value
from tunesmith.store import rules, statements
from tunesmith.store.kept import KeptJobs
from tunesmith.store.queries import read_one
from tunesmith.store.tables import FILES, JOBS

_Value = TypeVar("_Value", bound=Value)


def needed_files() -> ColumnElement[bool]:
    """Return the condition that an unfinished job needs the file."""
    needs = or_(JOBS.c.training_file == FILES.c.id, JOBS.c.validation_file == FILES.c.id)
    return exists().where(JOBS.c.status.in_(rules.UNFINISHED), needs)


class Scope:
    """A database as one project sees it, or as a whole where `project` is `None`."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        *,
        project: str | None,
        limits: Limits,
        kept: KeptJobs,
    ) -> None:
        """Read and write through `engine`; `clock` dates what the store adds of its own.

        `limits` are those of `project`, and `kept` are jobs of all projects.
        """
        self._engine = engine
        self._clock = clock
        self._project = project
        self._limits = limits
        self._kept = kept

    def _mine(self, table: FromClause) -> ColumnElement[bool]:
        """Return the condition that a row of `table` may be seen."""
        return true() if self._project is None else table.c.project == self._project

    def _owned(self, value: _Value) -> _Value:
        """Return `value` as a thing of this scope's project."""
        if self._project is None:
            return value
        return value.model_copy(update={"project": self._project})

    def _there(self) -> ColumnElement[bool]:
        """Return the condition that a file may be seen and is there: an expired one is not.

        One that an unfinished job needs does not expire.
        """
        expiry = FILES.c.expires_at
        kept = or_(expiry.is_(None), expiry > self._now(), needed_files())
        return self._mine(FILES) & kept

    def _now(self) -> int:
        return int(self._clock.now())

    def _job(self, connection: Connection, job_id: str) -> Job:
        query = statements.job_by_id(scoped=self._project is not None)
        given = self._identified(job_id)
        return read_one(connection, query, kind=Job, missing=rules.no_job(job_id), given=given)

    def _job_number(self, connection: Connection, job_id: str) -> int:
        """Return the number of the job's row, which costs less than the job."""
        query = statements.job_place(scoped=self._project is not None)
        number = connection.scalar(query, self._identified(job_id))
        if number is None:
            raise rules.no_job(job_id)
        return int(number)

    def _identified(self, job_id: str) -> dict[str, str]:
        return {"id": job_id} | ({"project": self._project} if self._project is not None else {})
