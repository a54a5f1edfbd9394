"""The statements of the lists that are asked for most, each built once.

To build a statement takes longer than SQLite takes to answer it. Each takes its values by name:
`project` where it is `scoped` to one, `id` or `job_id`, `place` (the number of the row that the
page begins behind), `most` (rows at the most), and `key_0`, `value_0` and so on for labels.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    Table,
    bindparam,
    exists,
    func,
    literal,
    select,
)

from tunesmith.store.tables import JOB_LABELS, JOBS

MANY = 1000
"""Up to this many jobs with a label are counted, to find out which label is the rarest."""


@cache
def job_by_id(*, scoped: bool) -> Select[Any]:
    """Return the statement of the job `id`."""
    return JOBS.select().where(JOBS.c.id == bindparam("id"), *_scope(JOBS, scoped=scoped))


@cache
def job_place(*, scoped: bool) -> Select[Any]:
    """Return the statement of the number of the job `id`."""
    return select(JOBS.c.seq).where(JOBS.c.id == bindparam("id"), *_scope(JOBS, scoped=scoped))


@cache
def place_in_job(table: Table) -> Select[Any]:
    """Return the statement of the number of the row `id` of `table` that belongs to `job_id`."""
    ours = table.c.job_id == bindparam("job_id")
    return select(table.c.seq).where(table.c.id == bindparam("id"), ours)


@cache
def page_of_job(table: Table, *, placed: bool) -> Select[Any]:
    """Return the statement of the newest rows of `table` that belong to `job_id`."""
    query = select(table).where(table.c.job_id == bindparam("job_id"))
    return _newest(query, table.c.seq, placed=placed)


@cache
def job_numbers(*, scoped: bool, placed: bool) -> Select[Any]:
    """Return the statement of the numbers of the newest jobs."""
    query = select(JOBS.c.seq).where(*_scope(JOBS, scoped=scoped))
    return _newest(query, JOBS.c.seq, placed=placed)


@cache
def unlabelled_numbers(*, scoped: bool, placed: bool) -> Select[Any]:
    """Return the statement of the numbers of the newest jobs without any label."""
    labelled = exists().where(JOB_LABELS.c.job_seq == JOBS.c.seq)
    query = select(JOBS.c.seq).where(*_scope(JOBS, scoped=scoped), ~labelled)
    return _newest(query, JOBS.c.seq, placed=placed)


@cache
def labelled_numbers(labels: int, *, scoped: bool, placed: bool) -> Select[Any]:
    """Return the statement of the numbers of the newest jobs with as many labels.

    It goes along the first label, whose index has its jobs in their order already.
    """
    rarest, *others = [JOB_LABELS.alias() for _ in range(labels)]
    query = select(rarest.c.job_seq).where(*_label(rarest, 0, scoped=scoped))
    for number, label in enumerate(others, 1):
        same = label.c.job_seq == rarest.c.job_seq
        query = query.where(exists().where(same, *_label(label, number, scoped=scoped)))
    return _newest(query, rarest.c.job_seq, placed=placed)


@cache
def label_count(*, scoped: bool) -> Select[Any]:
    """Return the statement of how many jobs carry the label 0, up to `MANY`."""
    some = select(literal(1)).where(*_label(JOB_LABELS, 0, scoped=scoped)).limit(MANY).subquery()
    return select(func.count()).select_from(some)


def _scope(table: FromClause, *, scoped: bool) -> list[ColumnElement[bool]]:
    return [table.c.project == bindparam("project")] if scoped else []


def _label(table: FromClause, number: int, *, scoped: bool) -> list[ColumnElement[bool]]:
    named = table.c.key == bindparam(f"key_{number}"), table.c.value == bindparam(f"value_{number}")
    return [*_scope(table, scoped=scoped), *named]


def _newest(query: Select[Any], sequence: ColumnElement[Any], *, placed: bool) -> Select[Any]:
    """Return `query` newest first, begun behind the place, to which the database goes straight."""
    if placed:
        query = query.where(sequence < bindparam("place"))
    return query.order_by(sequence.desc()).limit(bindparam("most"))
