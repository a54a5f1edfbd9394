"""Several processes on one database: each has a store of its own, and every race has one winner."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import TYPE_CHECKING

from tunesmith.domain.errors import ConflictError, StaleJobError, TunesmithError
from tunesmith.domain.jobs import JobChange, JobStatus
from tunesmith.store.sql import SqlStore

if TYPE_CHECKING:
    from unit.store.conftest import Examples, Steps

ROUNDS = 20
Open = Callable[[], SqlStore]


def race(*moves: Callable[[], object]) -> list[TunesmithError | None]:
    """Do all moves at once; return the error of each, or `None` where it went well."""
    start = Barrier(len(moves))

    def outcome(move: Callable[[], object]) -> TunesmithError | None:
        start.wait()
        try:
            move()
        except TunesmithError as error:
            return error
        return None

    with ThreadPoolExecutor(len(moves)) as threads:
        return list(threads.map(outcome, moves))


def test_a_job_is_cancelled_or_finished_but_never_both(
    open_store: Open, examples: Examples, steps: Steps
) -> None:
    api, controller = open_store(), open_store()
    for number in range(ROUNDS):
        job = steps.running(controller, str(number))
        model, results = examples.model(job), examples.results(job)

        refused, stale = race(
            partial(api.cancel_job, job.id, now=1),
            partial(controller.finish_job, job, JobChange(), model=model, results=results),
        )
        names = [known.name for known in api.list_tuned_models()]
        if stale is None:
            assert isinstance(refused, ConflictError)
            assert controller.job(job.id).status is JobStatus.SUCCEEDED
            assert model.name in names
        else:
            assert isinstance(stale, StaleJobError)
            assert refused is None
            assert controller.job(job.id).status is JobStatus.CANCELLED
            assert model.name not in names


def test_of_many_who_saw_the_same_job_one_changes_it(open_store: Open, steps: Steps) -> None:
    stores = [open_store() for _ in range(4)]
    for number in range(ROUNDS):
        job = steps.running(stores[0], str(number))
        requeue = JobChange(status=JobStatus.QUEUED, crashes=1)
        moves = [
            partial(store.change_job, job, requeue, message="Lost its worker") for store in stores
        ]
        errors = race(*moves)
        assert errors.count(None) == 1
        assert sum(isinstance(error, StaleJobError) for error in errors) == 3
        events = stores[0].list_events(job.id, after=None, limit=9).items
        assert [event.message for event in events].count("Lost its worker") == 1


def test_two_who_ingest_at_once_double_and_lose_nothing(
    open_store: Open, examples: Examples, steps: Steps
) -> None:
    one, other = open_store(), open_store()
    job = steps.running(one)
    lines = [examples.run_event(number) for number in range(1, 61)]
    checkpoints = [examples.checkpoint(job, 10)]

    def follow(store: SqlStore, stride: int) -> None:
        for end in range(stride, len(lines) + 1, stride):
            store.ingest(job.id, lines[:end], checkpoints=checkpoints)

    assert race(lambda: follow(one, 3), lambda: follow(other, 4)) == [None, None]
    told = one.list_events(job.id, after=None, limit=60).items
    assert [event.message for event in reversed(told)] == [line.message for line in lines]
    assert len(one.list_checkpoints(job.id, after=None, limit=9).items) == 1


def test_readers_go_on_while_somebody_writes(
    open_store: Open, examples: Examples, steps: Steps
) -> None:
    reader, writer = open_store(), open_store()
    job = steps.running(writer)

    def write() -> None:
        for number in range(1, 41):
            writer.ingest(job.id, [examples.run_event(number)], checkpoints=[])

    def read() -> None:
        seen = 0
        while seen < 40:
            now = reader.job(job.id).run_events_seen
            assert now >= seen
            seen = now

    assert race(write, read) == [None, None]
