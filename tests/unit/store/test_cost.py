"""No list becomes slower with its depth: the database goes to each place by an index."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Connection, event

from stores import SQLITE_ALONE
from tunesmith.domain.files import Purpose
from tunesmith.store.sql import SqlStore

if TYPE_CHECKING:
    from unit.store.conftest import Examples, Steps


def plans(store: SqlStore, ask: Callable[[], object]) -> list[str]:
    """Return how the database carries out each statement of `ask`.

    PostgreSQL reads small tables through and sorts them, unless it is told not to where it can; and
    among their indexes it takes any. So it is told, for this question, that its tables are long.
    """
    asked: list[tuple[str, Any]] = []

    def note(_c: Connection, _cursor: Any, statement: str, values: Any, *_rest: Any) -> None:
        if statement.startswith("SELECT"):
            asked.append((statement, values))

    engine = store._engine
    event.listen(engine, "before_cursor_execute", note)
    ask()
    event.remove(engine, "before_cursor_execute", note)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            return [
                row.detail
                for statement, values in asked
                for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            ]
        for way in ("seqscan", "sort", "bitmapscan", "hashjoin", "mergejoin"):
            connection.exec_driver_sql(f"SET LOCAL enable_{way} = off")
        connection.exec_driver_sql("DELETE FROM pg_statistic")
        connection.exec_driver_sql(
            "UPDATE pg_class SET reltuples = 1e6, relpages = 1 "
            "WHERE relkind IN ('r', 'i') AND relnamespace = current_schema()::regnamespace"
        )
        return [
            "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", values).scalars())
            for statement, values in asked
        ]


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.list_files(purpose=None, after="file-a", limit=5, order="desc"),
        lambda store: store.list_files(
            purpose=Purpose.FINE_TUNE, after="file-a", limit=5, order="asc"
        ),
        lambda store: store.newest_file_named("train.jsonl"),
        lambda store: store.list_jobs(after="ftjob-1", limit=5),
        lambda store: store.list_events("ftjob-1", after=None, limit=5),
        lambda store: store.list_checkpoints("ftjob-1", after=None, limit=5),
        lambda store: store.list_endpoints(after=None, limit=5),
    ],
)
def test_pages_are_found_and_sorted_by_an_index(
    open_store: Callable[[], SqlStore],
    examples: Examples,
    steps: Steps,
    kind: str,
    ask: Callable[[SqlStore], object],
) -> None:
    store = open_store().within("default")
    store.add_file(examples.file("a"))
    steps.running(store)
    found = plans(store, lambda: ask(store))
    assert found
    for plan in found:
        if kind == "sqlite":
            assert plan.startswith(("SEARCH", "CORRELATED"))
        assert not re.search("TEMP B-TREE|Seq Scan|Sort", plan)
        assert "Index Cond" in plan or kind == "sqlite"


@SQLITE_ALONE
def test_the_events_behind_a_cursor_are_found_by_an_index(
    open_store: Callable[[], SqlStore], steps: Steps
) -> None:
    store = open_store()
    job = steps.running(store)
    newest = store.list_events(job.id, after=None, limit=1).items[0].id
    found = plans(store, lambda: store.list_events(job.id, after=newest, limit=5))
    assert "SEARCH events USING INDEX ix_events_job_id_seq (job_id=? AND seq<?)" in found
    found = plans(store, lambda: store.events_behind(job.id, after=newest, limit=5))
    assert "SEARCH events USING INDEX ix_events_job_id_seq (job_id=? AND seq>?)" in found
    assert not [plan for plan in found if "TEMP B-TREE" in plan]


@SQLITE_ALONE
def test_due_deliveries_are_found_without_reading_the_others(
    open_store: Callable[[], SqlStore],
) -> None:
    store = open_store()
    found = plans(store, lambda: store.due_deliveries(busy=("we_1",), limit=5))
    assert [plan for plan in found if "(next_attempt_at<?)" in plan] == found


def test_open_jobs_are_found_without_reading_the_ended_ones(
    open_store: Callable[[], SqlStore], steps: Steps
) -> None:
    store = open_store()
    steps.running(store)
    found = plans(store, store.open_jobs)
    assert found
    assert not [plan for plan in found if plan.startswith("SCAN") or "Seq Scan" in plan]
