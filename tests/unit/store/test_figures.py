"""What those who watch the service are told, as every store knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stores import add_job
from tunesmith.domain.clock import FakeClock
from tunesmith.domain.events import Event
from tunesmith.domain.jobs import JobChange, JobStatus
from tunesmith.domain.liveness import CONTROLLER, LEASE_LIFE, STANDBY, SignOfLife
from tunesmith.domain.queue import Wait
from tunesmith.store.protocol import Store

if TYPE_CHECKING:
    from unit.store.conftest import Examples, Steps


def queue(store: Store, examples: Examples, name: str) -> None:
    add_job(store, examples.job(name))
    store.change_job(store.job(f"ftjob-{name}"), JobChange(status=JobStatus.QUEUED))


def test_an_empty_store_has_nothing_to_tell(store: Store) -> None:
    figures = store.figures()
    assert (figures.jobs, figures.waiting, figures.head_since) == ({}, 0, None)
    assert (figures.running, figures.controller, figures.standby) == ((), None, False)


def test_jobs_are_counted_over_all_projects(store: Store, examples: Examples, steps: Steps) -> None:
    steps.running(store, "1")
    add_job(store.within("other"), examples.job("2", training_file="file-b"))
    assert store.within("third").figures().jobs == {
        JobStatus.RUNNING: 1,
        JobStatus.VALIDATING_FILES: 1,
    }


def test_the_head_of_the_queue_has_waited_since_its_last_event(
    store: Store, examples: Examples, clock: FakeClock
) -> None:
    queue(store, examples, "1")
    clock.advance(60)
    queue(store, examples, "2")
    first = last_event(store, "ftjob-1").created_at
    assert (store.figures().waiting, store.figures().head_since) == (2, first)

    told = Wait(
        job_id="ftjob-2", position=1, reason="Next.", missing={}, held_by=(), expected_start=None
    )
    store.tell_waits([told], over=())
    second = last_event(store, "ftjob-2").created_at
    assert second == first + 60
    assert store.figures().head_since == second


def test_an_attempt_that_is_on_the_cluster_waits_no_more(store: Store, examples: Examples) -> None:
    queue(store, examples, "1")
    store.change_job(store.job("ftjob-1"), JobChange(attempt=1, submission_open=True))
    assert (store.figures().waiting, store.figures().head_since) == (0, None)


def test_a_running_job_shows_its_last_step(store: Store, examples: Examples, steps: Steps) -> None:
    job = steps.running(store, "1")
    assert store.figures().running == ()

    news = [
        examples.run_event(1, metrics=examples.metrics(4)),
        examples.run_event(2, metrics=examples.metrics(5)),
        examples.run_event(3),
    ]
    store.ingest(job.id, news, checkpoints=[])
    [run] = store.figures().running
    assert (run.job_id, run.step, run.total_steps, run.valid_loss) == (job.id, 5, 100, None)
    assert (run.train_loss, run.tokens_per_second) == (0.1 + 0.2, 512.5)


def test_what_the_controller_saw_is_told(store: Store, clock: FakeClock) -> None:
    sign = SignOfLife(
        process=CONTROLLER, at=7, cluster_up=True, there={"CPU": 4.0, "GPU": 2.0}, held={"CPU": 1.0}
    )
    store.give_sign(sign)
    store.take_lease(STANDBY, "second")
    assert (store.figures().controller, store.figures().standby) == (sign, True)

    clock.advance(LEASE_LIFE)
    assert not store.figures().standby


def last_event(store: Store, job_id: str) -> Event:
    return store.list_events(job_id, after=None, limit=1).items[0]
