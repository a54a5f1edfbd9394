"""What is kept in memory of ended jobs is never older than what stands in the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tunesmith.domain.jobs import JobChange, JobStatus
from tunesmith.store.sql import SqlStore

if TYPE_CHECKING:
    from unit.store.conftest import Examples, Steps


def test_a_list_shows_each_job_as_it_is_now(
    open_store: Callable[[], SqlStore], steps: Steps
) -> None:
    ours, theirs = open_store(), open_store()
    job = steps.running(theirs)
    assert ours.list_jobs(after=None, limit=5).items == (job,)
    job = theirs.cancel_job(job.id, now=9)
    assert ours.list_jobs(after=None, limit=5).items == (job,)
    job = theirs.change_job(job, JobChange(submission_open=False))
    assert job.status is JobStatus.CANCELLED
    for _ in range(2):
        assert ours.list_jobs(after=None, limit=5).items == (job,)


def test_a_list_keeps_its_order_whatever_is_kept_of_it(
    open_store: Callable[[], SqlStore], steps: Steps, examples: Examples
) -> None:
    store = open_store()
    names = [str(number) for number in range(7)]
    for name in names:
        if int(name) % 2:
            store.add_job(examples.job(name))
        else:
            steps.succeeded(store, name)
    store.list_jobs(after="ftjob-5", limit=2)
    listed = [job.id for job in store.list_jobs(after=None, limit=9).items]
    assert listed == [f"ftjob-{name}" for name in reversed(names)]
