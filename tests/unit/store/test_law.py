"""Whatever is asked in whatever order: the transition table is kept, and no event is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postgres import Server
from stores import add_job, fresh_store
from tunesmith.domain.clock import FakeClock
from tunesmith.domain.errors import TunesmithError
from tunesmith.domain.events import Event
from tunesmith.domain.jobs import TRANSITIONS, Job, JobChange, JobStatus
from tunesmith.store.protocol import Store
from tunesmith.store.sql import SqlStore

if TYPE_CHECKING:
    from unit.store.conftest import Examples

Move = Callable[[Store, Job, "Examples"], object]
"""Does something to the job, which is given as the caller last saw it."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> Iterator[SqlStore]:
    if request.param == "sqlite":
        yield fresh_store(FakeClock())
        return
    server: Server = request.getfixturevalue("server")
    store = SqlStore.open(server.url(server.database()), FakeClock())
    yield store
    store.close()


def changing(change: JobChange) -> Move:
    return lambda store, seen, _: store.change_job(seen, change)


def cancelling(now: int) -> Move:
    return lambda store, seen, _: store.cancel_job(seen.id, now=now)


def pausing(store: Store, seen: Job, _: Examples) -> None:
    store.pause_job(seen.id)


def resuming(store: Store, seen: Job, _: Examples) -> None:
    store.resume_job(seen.id)


def finishing(tokens: int) -> Move:
    return lambda store, seen, examples: store.finish_job(
        seen,
        JobChange(trained_tokens=tokens),
        model=examples.model(seen),
        results=examples.results(seen),
    )


def ingesting(numbers: tuple[int, int]) -> Move:
    first, last = sorted(numbers)

    def ingest(store: Store, seen: Job, examples: Examples) -> None:
        lines = [
            examples.run_event(number, metrics=examples.metrics(number))
            for number in range(first, last + 1)
        ]
        store.ingest(seen.id, lines, checkpoints=[])

    return ingest


changes = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(JobStatus),
        "attempt": st.integers(0, 2),
        "crashes": st.integers(0, 2),
        "submission_open": st.booleans(),
        "stopping": st.booleans(),
        "finished_at": st.integers(1, 9),
        "estimated_finish": st.none() | st.integers(1, 9),
    },
).map(JobChange.model_validate)
moves = st.one_of(
    changes.map(changing),
    changes.map(changing),
    st.integers(1, 9).map(cancelling),
    st.integers(0, 9).map(finishing),
    st.just(pausing),
    st.just(resuming),
    st.tuples(st.integers(1, 9), st.integers(1, 9)).map(ingesting),
)
numbers = count()


@settings(max_examples=60, deadline=None)
@given(script=st.lists(st.tuples(moves, st.booleans()), max_size=12))
def test_the_law_is_kept_and_what_was_told_stays_told(
    store: SqlStore, examples: Examples, script: list[tuple[Move, bool]]
) -> None:
    seen = examples.job(str(next(numbers)))
    add_job(store, seen)
    for move, looks_again in script:
        before, told = store.job(seen.id), story(store, seen.id)
        seen = before if looks_again else seen
        refused = outcome(store, move, seen, examples)
        after = store.job(seen.id)
        assert after.status is before.status or after.status in TRANSITIONS[before.status]
        assert (after.finished_at is not None) == after.status.terminal
        assert after.estimated_finish is None or after.status is JobStatus.RUNNING
        assert after.submission_open or not after.stopping
        new = story(store, seen.id)
        assert new[len(new) - len(told) :] == told
        if refused:
            assert (after, new) == (before, told)
        elif after.status is not before.status:
            assert len(new) > len(told)


def outcome(store: Store, move: Move, seen: Job, examples: Examples) -> bool:
    """Make the move, and tell whether it was refused."""
    try:
        move(store, seen, examples)
    except TunesmithError:
        return True
    return False


def story(store: Store, job_id: str) -> list[Event]:
    return list(store.list_events(job_id, after=None, limit=1000).items)
