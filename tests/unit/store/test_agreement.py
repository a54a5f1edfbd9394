"""Whatever is asked in whatever order: both stores agree, and the transition table is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.domain.clock import FakeClock
from tunesmith.domain.errors import TunesmithError
from tunesmith.domain.jobs import TRANSITIONS, Job, JobChange, JobStatus
from tunesmith.store.memory import MemoryStore
from tunesmith.store.protocol import Store
from tunesmith.store.sql import SqlStore

if TYPE_CHECKING:
    from unit.store.conftest import Examples

Move = Callable[[Store, Job, "Examples"], object]
"""Does something to the job, which is given as the caller last saw it."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MemoryStore, SqlStore]]:
    clock = FakeClock()
    sql = SqlStore(f"sqlite:///{tmp_path_factory.mktemp('agreement')}/tunesmith.db", clock)
    yield MemoryStore(clock), sql
    sql.close()


def changing(change: JobChange) -> Move:
    return lambda store, seen, _: store.change_job(seen, change)


def cancelling(now: int) -> Move:
    return lambda store, seen, _: store.cancel_job(seen.id, now=now)


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
        "finished_at": st.integers(1, 9),
        "estimated_finish": st.none() | st.integers(1, 9),
    },
).map(JobChange.model_validate)
moves = st.one_of(
    changes.map(changing),
    changes.map(changing),
    st.integers(1, 9).map(cancelling),
    st.integers(0, 9).map(finishing),
    st.tuples(st.integers(1, 9), st.integers(1, 9)).map(ingesting),
)
numbers = count()


@settings(max_examples=60, deadline=None)
@given(script=st.lists(st.tuples(moves, st.booleans()), max_size=12))
def test_both_stores_agree_and_keep_the_law(
    pair: tuple[MemoryStore, SqlStore], examples: Examples, script: list[tuple[Move, bool]]
) -> None:
    memory, sql = pair
    seen = examples.job(str(next(numbers)))
    for store in pair:
        store.add_job(seen)
    for move, looks_again in script:
        before = memory.job(seen.id)
        seen = before if looks_again else seen
        assert outcome(memory, move, seen, examples) == outcome(sql, move, seen, examples)
        after = memory.job(seen.id)
        assert sql.job(seen.id) == after
        assert after.status is before.status or after.status in TRANSITIONS[before.status]
        assert (after.finished_at is not None) == after.status.terminal
        assert after.estimated_finish is None or after.status is JobStatus.RUNNING
        assert story(memory, seen.id) == story(sql, seen.id)


def outcome(store: Store, move: Move, seen: Job, examples: Examples) -> object:
    try:
        return move(store, seen, examples)
    except TunesmithError as error:
        return type(error), error.message


def story(store: Store, job_id: str) -> list[tuple[object, ...]]:
    """Return all that the job's events say, but for their random ids."""
    events = store.list_events(job_id, after=None, limit=1000).items
    return [(e.created_at, e.level, e.type, e.message, e.data) for e in events]
