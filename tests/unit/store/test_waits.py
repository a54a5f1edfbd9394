"""Why jobs wait, and how long they ran, as every store keeps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stores import add_job
from tunesmith.domain.clock import FakeClock
from tunesmith.domain.jobs import JobChange, JobStatus
from tunesmith.domain.queue import Holder, Wait
from tunesmith.store.protocol import Store
from tunesmith.store.sql import SqlStore

if TYPE_CHECKING:
    from unit.store.conftest import Examples, Steps


def wait(job_id: str, position: int = 1) -> Wait:
    holder = Holder(job_id="ftjob-9", project="p", resources={"CPU": 2.0}, until=7)
    return Wait(
        job_id=job_id,
        position=position,
        reason="It lacks 2 CPU.",
        missing={"CPU": 2.0},
        held_by=(holder,),
        expected_start=7,
    )


def test_what_is_told_is_found_by_the_job(store: Store, examples: Examples) -> None:
    for name in ("1", "2"):
        add_job(store, examples.job(name))
    first, second = wait("ftjob-1", 2), wait("ftjob-2", 1)
    store.tell_waits([first, second], over=())
    assert store.waits(["ftjob-1", "ftjob-7"]) == {"ftjob-1": first}
    assert store.waits([]) == {}
    assert store.all_waits() == [second, first]


def test_what_is_told_anew_takes_the_place_of_the_old(store: Store, examples: Examples) -> None:
    add_job(store, examples.job())
    store.tell_waits([wait("ftjob-1", 2)], over=())
    store.tell_waits([wait("ftjob-1", 1)], over=())
    assert store.all_waits() == [wait("ftjob-1", 1)]
    store.tell_waits([], over=["ftjob-1", "ftjob-7"])
    assert store.all_waits() == []


def test_seconds_of_running_add_up_and_those_of_waiting_do_not(
    store: Store, steps: Steps, clock: FakeClock
) -> None:
    job = steps.running(store)
    began = int(clock.now())
    assert (job.began_at, job.run_seconds) == (began, 0)
    clock.advance(30)
    job = store.change_job(job, JobChange(status=JobStatus.QUEUED, submission_open=False))
    assert (job.began_at, job.run_seconds) == (None, 30)
    clock.advance(500)
    job = store.change_job(job, JobChange(status=JobStatus.RUNNING))
    clock.advance(5)
    job = store.cancel_job(job.id, now=int(clock.now()))
    assert (job.began_at, job.run_seconds) == (None, 35)


def test_jobs_that_ended_lately_are_found(store: Store, steps: Steps, clock: FakeClock) -> None:
    steps.succeeded(store, "1")
    clock.advance(100)
    later = steps.succeeded(store, "2")
    steps.running(store, "3")
    assert store.jobs_ended_since(int(clock.now())) == [later]
    assert len(store.jobs_ended_since(0)) == 2


def test_each_look_at_open_jobs_shows_them_as_they_are_now(
    open_store: Callable[[], SqlStore], steps: Steps, examples: Examples, clock: FakeClock
) -> None:
    ours, theirs = open_store(), open_store()
    job = steps.running(theirs)
    assert ours.open_jobs() == [job]
    theirs.ingest(job.id, [examples.run_event(1, metrics=examples.metrics(1))], checkpoints=[])
    assert ours.open_jobs() == [theirs.job(job.id)]
    paused = theirs.pause_job(job.id)
    assert ours.open_jobs() == [paused]
    other = examples.job("2")
    add_job(theirs, other)
    assert ours.open_jobs() == [paused, other]
    theirs.cancel_job(other.id, now=int(clock.now()))
    assert ours.open_jobs() == [paused]
