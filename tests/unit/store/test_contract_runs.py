"""What every store does with what a run tells: its events and checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.events import EventLevel, EventType, RunEvent, RunOutcome
from tunesmith.domain.jobs import Job, JobChange
from tunesmith.store.protocol import Store

if TYPE_CHECKING:
    from unit.store.conftest import Examples, Steps

NOW = 1_700_000_000
BEFORE_THE_RUN = 3
"""Events of a job when it starts running: created, queued, started."""


@pytest.fixture
def job(store: Store, steps: Steps) -> Job:
    return steps.running(store)


def told(store: Store, job: Job) -> list[str]:
    """Return what the run has told, oldest first."""
    events = store.list_events(job.id, after=None, limit=1000).items
    return [event.message for event in reversed(events)][BEFORE_THE_RUN:]


class TestEvents:
    def test_a_line_without_metrics_becomes_a_message(self, store: Store, job: Job) -> None:
        line = RunEvent(
            number=1, created_at=NOW + 9, level=EventLevel.WARN, message="Cut", data={"line": 3}
        )
        store.ingest(job.id, [line], checkpoints=[])
        event = store.list_events(job.id, after=None, limit=1).items[0]
        assert (event.type, event.level, event.message) == (EventType.MESSAGE, "warn", "Cut")
        assert (event.job_id, event.created_at, event.data) == (job.id, NOW + 9, {"line": 3})

    def test_metrics_become_data_without_the_absent_ones(
        self, store: Store, job: Job, examples: Examples
    ) -> None:
        line = examples.run_event(1, metrics=examples.metrics(1))
        store.ingest(job.id, [line.model_copy(update={"data": {"lines": 4}})], checkpoints=[])
        event = store.list_events(job.id, after=None, limit=1).items[0]
        assert event.type is EventType.METRICS
        assert event.data == {
            "step": 1,
            "train_loss": 0.1 + 0.2,
            "train_mean_token_accuracy": 0.5,
            "total_steps": 100,
            "learning_rate": 1e-4,
            "tokens_per_second": 512.5,
            "seconds_left": 60.0,
            "lines": 4,
        }

    def test_a_line_with_nothing_but_the_outcome_is_counted_and_not_shown(
        self, store: Store, job: Job
    ) -> None:
        end = RunEvent(number=1, created_at=NOW, message="End", outcome=RunOutcome())
        store.ingest(job.id, [end], checkpoints=[])
        assert told(store, job) == []
        assert store.job(job.id).run_events_seen == 1

    def test_an_outcome_beside_other_news_is_shown(
        self, store: Store, job: Job, examples: Examples
    ) -> None:
        end = RunEvent(number=1, created_at=NOW, message="End", outcome=RunOutcome())
        saved = end.model_copy(update={"checkpoint": examples.metrics(9)})
        measured = end.model_copy(update={"number": 2, "metrics": examples.metrics(9)})
        store.ingest(job.id, [saved, measured], checkpoints=[])
        assert told(store, job) == ["End", "End"]

    def test_lines_are_taken_in_once(self, store: Store, job: Job, examples: Examples) -> None:
        lines = [examples.run_event(number) for number in range(1, 6)]
        store.ingest(job.id, lines[:3], checkpoints=[])
        store.ingest(job.id, lines, checkpoints=[])
        store.ingest(job.id, lines[:2], checkpoints=[])
        assert told(store, job) == [f"line {number}" for number in range(1, 6)]
        assert store.job(job.id).run_events_seen == 5

    def test_the_rest_of_an_ended_job_is_still_taken_in(
        self, store: Store, job: Job, examples: Examples
    ) -> None:
        store.cancel_job(job.id, now=NOW)
        store.ingest(
            job.id,
            [examples.run_event(1, metrics=examples.metrics(1))],
            checkpoints=[examples.checkpoint(job, 1)],
        )
        assert told(store, job)[-1] == "line 1"
        assert len(store.list_checkpoints(job.id, after=None, limit=9).items) == 1
        assert store.job(job.id).estimated_finish is None

    def test_events_are_paged_newest_first(
        self, store: Store, job: Job, examples: Examples
    ) -> None:
        store.ingest(job.id, [examples.run_event(number) for number in range(1, 6)], checkpoints=[])
        first = store.list_events(job.id, after=None, limit=3)
        assert [event.message for event in first.items] == ["line 5", "line 4", "line 3"]
        assert first.has_more
        rest = store.list_events(job.id, after=first.items[-1].id, limit=2 + BEFORE_THE_RUN)
        assert [event.message for event in rest.items[:2]] == ["line 2", "line 1"]
        assert not rest.has_more

    def test_a_cursor_of_another_job_is_refused(self, store: Store, job: Job, steps: Steps) -> None:
        other = steps.running(store, "2")
        foreign = store.list_events(other.id, after=None, limit=1).items[0].id
        for after in (foreign, "ftevent-x"):
            with pytest.raises(InvalidRequestError, match=after):
                store.list_events(job.id, after=after, limit=1)


class TestEstimatedFinish:
    def test_it_follows_the_newest_metrics(
        self, store: Store, job: Job, examples: Examples
    ) -> None:
        lines = [
            examples.run_event(1, metrics=examples.metrics(1, seconds_left=99)),
            examples.run_event(2, metrics=examples.metrics(2, seconds_left=40.4)),
            examples.run_event(3),
        ]
        store.ingest(job.id, lines, checkpoints=[])
        assert store.job(job.id).estimated_finish == NOW + 2 + 40

    def test_old_metrics_do_not_turn_it_back(
        self, store: Store, job: Job, examples: Examples
    ) -> None:
        old = examples.run_event(1, metrics=examples.metrics(1, seconds_left=99))
        new = examples.run_event(2, metrics=examples.metrics(2, seconds_left=40))
        store.ingest(job.id, [old, new], checkpoints=[])
        store.ingest(job.id, [old], checkpoints=[])
        assert store.job(job.id).estimated_finish == NOW + 2 + 40


class TestCheckpoints:
    def test_they_come_back_newest_first(self, store: Store, job: Job, examples: Examples) -> None:
        added = [examples.checkpoint(job, step) for step in (10, 20, 30)]
        store.ingest(job.id, [], checkpoints=added)
        first = store.list_checkpoints(job.id, after=None, limit=2)
        assert (list(first.items), first.has_more) == ([added[2], added[1]], True)
        rest = store.list_checkpoints(job.id, after=added[1].id, limit=2)
        assert (list(rest.items), rest.has_more) == ([added[0]], False)

    def test_each_step_is_kept_once(self, store: Store, job: Job, examples: Examples) -> None:
        first = examples.checkpoint(job, 10)
        store.ingest(job.id, [], checkpoints=[first])
        later = [examples.checkpoint(job, step) for step in (10, 20, 20)]
        store.ingest(job.id, [], checkpoints=later)
        found = store.list_checkpoints(job.id, after=None, limit=9).items
        assert [checkpoint.step for checkpoint in found] == [20, 10]
        assert found[1] == first

    def test_all_but_the_kept_are_dropped(
        self, store: Store, job: Job, steps: Steps, examples: Examples
    ) -> None:
        other = steps.running(store, "2")
        store.ingest(
            job.id, [], checkpoints=[examples.checkpoint(job, step) for step in (10, 20, 30)]
        )
        store.ingest(other.id, [], checkpoints=[examples.checkpoint(other, 10)])
        store.drop_checkpoints(job.id, keep=[20, 30])
        left = store.list_checkpoints(job.id, after=None, limit=9).items
        assert [checkpoint.step for checkpoint in left] == [30, 20]
        store.drop_checkpoints(job.id, keep=[])
        assert store.list_checkpoints(job.id, after=None, limit=9).items == ()
        assert len(store.list_checkpoints(other.id, after=None, limit=9).items) == 1

    def test_an_unknown_checkpoint_cursor_is_refused(self, store: Store, job: Job) -> None:
        with pytest.raises(InvalidRequestError, match="ftckpt_x"):
            store.list_checkpoints(job.id, after="ftckpt_x", limit=1)


class TestEventsBehind:
    def test_they_come_oldest_first_from_the_beginning(self, store: Store, job: Job) -> None:
        told = store.events_behind(job.id, after=None, limit=100)
        newest_first = store.list_events(job.id, after=None, limit=100).items
        assert told.events == newest_first[::-1]
        assert not told.ended

    def test_they_come_in_parts_and_the_last_part_of_an_ended_job_says_so(
        self, store: Store, job: Job
    ) -> None:
        store.change_job(store.job(job.id), JobChange(submission_open=False))
        store.cancel_job(job.id, now=NOW)
        first = store.events_behind(job.id, after=None, limit=BEFORE_THE_RUN)
        assert (len(first.events), first.ended) == (BEFORE_THE_RUN, False)
        rest = store.events_behind(job.id, after=first.events[-1].id, limit=BEFORE_THE_RUN)
        assert [event.message for event in rest.events] == ["Fine-tuning job cancelled"]
        assert rest.ended
        assert store.events_behind(job.id, after=rest.events[-1].id, limit=1).ended

    def test_a_cancelled_job_whose_attempt_may_still_tell_has_not_ended(
        self, store: Store, job: Job
    ) -> None:
        store.cancel_job(job.id, now=NOW)
        assert not store.events_behind(job.id, after=None, limit=100).ended

    def test_an_event_of_another_job_is_no_place_to_go_on_from(
        self, store: Store, job: Job, steps: Steps
    ) -> None:
        other = steps.running(store, "2")
        theirs = store.list_events(other.id, after=None, limit=1).items[0].id
        with pytest.raises(InvalidRequestError, match="names nothing"):
            store.events_behind(job.id, after=theirs, limit=5)

    def test_news_name_the_jobs_that_have_told_something_behind_a_place(
        self, store: Store, job: Job, steps: Steps, examples: Examples
    ) -> None:
        start = store.news(behind=None)
        assert start.job_ids == frozenset()
        assert store.news(behind=start.newest) == start
        other = steps.running(store, "2")
        store.ingest(job.id, [examples.run_event(1)], checkpoints=[])
        news = store.news(behind=start.newest)
        assert news.job_ids == {job.id, other.id}
        assert news.newest > start.newest
        assert store.news(behind=news.newest).job_ids == frozenset()
