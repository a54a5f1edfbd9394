"""What every store does with files, jobs and tuned models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stores import add_job
from tunesmith.domain.clock import FakeClock
from tunesmith.domain.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    StaleJobError,
)
from tunesmith.domain.events import EventLevel
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.files import Purpose
from tunesmith.domain.jobs import JobChange, JobError, JobStatus
from tunesmith.domain.resolved import ResolvedHyperparameters
from tunesmith.domain.values import Page
from tunesmith.store.protocol import Store

if TYPE_CHECKING:
    from unit.store.conftest import Examples, Steps

NOW = 1_700_000_000


def ids(page: Page[Any]) -> list[str]:
    return [item.id for item in page.items]


def messages(store: Store, job_id: str) -> list[str]:
    events = store.list_events(job_id, after=None, limit=100).items
    return [event.message for event in reversed(events)]


class TestFiles:
    def test_a_file_comes_back_as_it_was_added(self, store: Store, examples: Examples) -> None:
        store.add_file(examples.file("a"))
        assert store.file("file-a") == examples.file("a")

    def test_an_unknown_file_is_named(self, store: Store) -> None:
        with pytest.raises(NotFoundError, match=r"^No such File object: file-x$") as caught:
            store.file("file-x")
        assert caught.value.param == "file_id"

    def test_the_newest_file_of_a_name_is_found(self, store: Store, examples: Examples) -> None:
        for name, filename in [("a", "x.json"), ("b", "x.json"), ("c", "y.json")]:
            store.add_file(examples.file(name, filename=filename))
        assert store.newest_file_named("x.json").id == "file-b"

    def test_a_name_finds_training_files_only(self, store: Store, examples: Examples) -> None:
        store.add_file(examples.file("a", filename="x.json"))
        store.add_file(examples.file("b", filename="x.json", purpose=Purpose.FINE_TUNE_RESULTS))
        assert store.newest_file_named("x.json").id == "file-a"

    def test_a_name_of_other_files_alone_finds_the_newest(
        self, store: Store, examples: Examples
    ) -> None:
        for name, purpose in [("a", Purpose.BATCH), ("b", Purpose.EVALS)]:
            store.add_file(examples.file(name, filename="x.json", purpose=purpose))
        assert store.newest_file_named("x.json").id == "file-b"

    def test_an_unknown_name_is_answered_in_opeas_words(self, store: Store) -> None:
        with pytest.raises(NotFoundError, match=r"^Training file 'x\.json' not found!$"):
            store.newest_file_named("x.json")

    @pytest.mark.parametrize(("order", "expected"), [("asc", "abcde"), ("desc", "edcba")])
    def test_pages_follow_each_other_without_gap_or_repeat(
        self, store: Store, examples: Examples, order: Any, expected: str
    ) -> None:
        for name in "abcde":
            store.add_file(examples.file(name))
        found: list[str] = []
        more, after = True, None
        while more:
            page = store.list_files(purpose=None, after=after, limit=2, order=order)
            found, more, after = found + ids(page), page.has_more, page.items[-1].id
        assert found == [f"file-{name}" for name in expected]

    def test_a_full_last_page_has_no_more(self, store: Store, examples: Examples) -> None:
        store.add_file(examples.file("a"))
        store.add_file(examples.file("b"))
        page = store.list_files(purpose=None, after=None, limit=2, order="asc")
        assert not page.has_more

    def test_files_are_listed_by_purpose(self, store: Store, examples: Examples) -> None:
        store.add_file(examples.file("a"))
        store.add_file(examples.file("b", purpose=Purpose.EVALS))
        page = store.list_files(purpose=Purpose.EVALS, after=None, limit=1, order="asc")
        assert ids(page) == ["file-b"]
        assert not page.has_more

    def test_a_cursor_outside_the_list_is_refused(self, store: Store, examples: Examples) -> None:
        store.add_file(examples.file("a"))
        for purpose, after in [(None, "file-x"), (Purpose.EVALS, "file-a")]:
            with pytest.raises(InvalidRequestError, match=after) as caught:
                store.list_files(purpose=purpose, after=after, limit=1, order="asc")
            assert caught.value.param == "after"

    def test_a_deleted_file_is_gone(self, store: Store, examples: Examples) -> None:
        store.add_file(examples.file("a"))
        assert store.deletable_file("file-a") == examples.file("a")
        assert store.delete_file("file-a") is False, "nobody else has its bytes"
        for gone in (store.file, store.deletable_file, store.delete_file):
            with pytest.raises(NotFoundError, match="file-a"):
                gone("file-a")

    def test_the_file_of_an_unfinished_job_stays(self, store: Store, examples: Examples) -> None:
        for name in "ab":
            store.add_file(examples.file(name))
        add_job(store, examples.job("1", validation_file="file-b"))
        add_job(store, examples.job("2", training_file="file-b"))
        for ask in (store.deletable_file, store.delete_file):
            with pytest.raises(ConflictError, match="ftjob-1, ftjob-2") as caught:
                ask("file-b")
            assert caught.value.code == "file_in_use"
        assert store.file("file-b").id == "file-b"

    def test_the_file_of_an_ended_job_may_go(self, store: Store, examples: Examples) -> None:
        store.add_file(examples.file("a"))
        add_job(store, examples.job("1"))
        store.cancel_job("ftjob-1", now=NOW)
        store.delete_file("file-a")
        assert store.job("ftjob-1").training_file == "file-a"


class TestJobs:
    def test_a_job_comes_back_as_it_was_added(self, store: Store, examples: Examples) -> None:
        add_job(store, examples.job())
        assert store.job("ftjob-1") == examples.job()

    def test_an_added_job_has_its_first_event(self, store: Store, examples: Examples) -> None:
        add_job(store, examples.job())
        assert messages(store, "ftjob-1") == ["Created fine-tuning job: ftjob-1"]

    def test_an_unknown_job_is_named_by_every_method(
        self, store: Store, examples: Examples
    ) -> None:
        job = examples.job("x")
        model, results = examples.model(job), examples.results(job)
        for ask in (
            lambda: store.job(job.id),
            lambda: store.cancel_job(job.id, now=NOW),
            lambda: store.change_job(job, JobChange(attempt=1)),
            lambda: store.finish_job(job, JobChange(), model=model, results=results),
            lambda: store.ingest(job.id, [], checkpoints=[]),
            lambda: store.list_events(job.id, after=None, limit=1),
            lambda: store.list_checkpoints(job.id, after=None, limit=1),
            lambda: store.drop_checkpoints(job.id, keep=[]),
        ):
            with pytest.raises(
                NotFoundError, match=r"^No such fine-tuning job: ftjob-x$"
            ) as caught:
                ask()
            assert caught.value.param == "fine_tuning_job_id"

    def test_jobs_are_paged_newest_first(self, store: Store, examples: Examples) -> None:
        for name in "123":
            add_job(store, examples.job(name))
        first = store.list_jobs(after=None, limit=2)
        assert (ids(first), first.has_more) == (["ftjob-3", "ftjob-2"], True)
        second = store.list_jobs(after="ftjob-2", limit=2)
        assert (ids(second), second.has_more) == (["ftjob-1"], False)

    @pytest.mark.parametrize(
        ("metadata", "expected"),
        [
            (None, "54321"),
            ({"team": "blue"}, "41"),
            ({"team": "blue", 'k".]': "\u00e9"}, "4"),
            ({"k": ""}, ""),
            ({}, "53"),
        ],
    )
    def test_jobs_are_listed_by_their_labels(
        self, store: Store, examples: Examples, metadata: dict[str, str] | None, expected: str
    ) -> None:
        blue = {"team": "blue"}
        labels = [blue, {"team": "red"}, None, blue | {'k".]': "\u00e9"}, {}]
        for number, carried in enumerate(labels, start=1):
            job = examples.job(str(number))
            request = job.request.model_copy(update={"metadata": carried})
            add_job(store, job.model_copy(update={"request": request}))
        found: list[str] = []
        more, after = bool(expected), None
        while more:
            page = store.list_jobs(after=after, limit=1, metadata=metadata)
            found, more, after = found + ids(page), page.has_more, page.items[-1].id
        assert found == [f"ftjob-{number}" for number in expected]
        assert store.list_jobs(after="ftjob-1", limit=1, metadata=metadata).items == ()

    def test_an_unknown_job_cursor_is_refused(self, store: Store) -> None:
        for metadata in (None, {"team": "blue"}):
            with pytest.raises(InvalidRequestError, match="ftjob-x"):
                store.list_jobs(after="ftjob-x", limit=1, metadata=metadata)

    def test_open_jobs_are_unfinished_or_hold_a_submission(
        self, store: Store, examples: Examples, steps: Steps
    ) -> None:
        steps.running(store, "1")
        steps.running(store, "2")
        add_job(store, examples.job("3"))
        for name in "13":
            store.cancel_job(f"ftjob-{name}", now=NOW)
        add_job(store, examples.job("4"))
        assert [job.id for job in store.open_jobs()] == ["ftjob-1", "ftjob-2", "ftjob-4"]


class TestChanges:
    def test_each_named_field_is_kept(self, store: Store, examples: Examples) -> None:
        add_job(store, examples.job())
        resolved = ResolvedHyperparameters(
            n_epochs=3, batch_size=4, learning_rate_multiplier=0.5, learning_rate=1e-4, examples=9
        )
        failure = JobError(code=FailureCode.DISK_FULL, message="Free some.", param="model")
        change = JobChange(
            status=JobStatus.FAILED, resolved=resolved, error=failure, crashes=2, trained_tokens=9
        )
        returned = store.change_job(examples.job(), change)
        assert returned == store.job("ftjob-1")
        named = {name: getattr(change, name) for name in change.model_fields_set}
        expected = named | {"finished_at": NOW}
        assert returned == examples.job().model_copy(update=expected)

    def test_a_change_and_its_event_are_one(
        self, store: Store, examples: Examples, clock: FakeClock
    ) -> None:
        add_job(store, examples.job())
        clock.advance(5)
        change = JobChange(status=JobStatus.QUEUED)
        store.change_job(examples.job(), change, message="Waiting", level=EventLevel.WARN)
        newest = store.list_events("ftjob-1", after=None, limit=1).items[0]
        assert (newest.message, newest.level, newest.type) == ("Waiting", "warn", "message")
        assert newest.created_at == NOW + 5

    def test_no_change_of_status_goes_without_an_event(
        self, store: Store, examples: Examples
    ) -> None:
        add_job(store, examples.job())
        queued = store.change_job(examples.job(), JobChange(status=JobStatus.QUEUED))
        store.change_job(queued, JobChange(crashes=1))
        assert messages(store, "ftjob-1")[1:] == ["The job is now queued"]

    @pytest.mark.parametrize(
        "meanwhile", [JobChange(status=JobStatus.QUEUED), JobChange(attempt=1)]
    )
    def test_a_job_that_changed_since_is_left_alone(
        self, store: Store, examples: Examples, meanwhile: JobChange
    ) -> None:
        add_job(store, examples.job())
        now = store.change_job(examples.job(), meanwhile)
        said = messages(store, "ftjob-1")
        with pytest.raises(StaleJobError, match="ftjob-1"):
            store.change_job(examples.job(), JobChange(status=JobStatus.FAILED), message="No")
        assert store.job("ftjob-1") == now
        assert messages(store, "ftjob-1") == said

    def test_other_fields_may_have_changed_and_are_kept(
        self, store: Store, examples: Examples
    ) -> None:
        add_job(store, examples.job())
        store.change_job(examples.job(), JobChange(crashes=1))
        after = store.change_job(examples.job(), JobChange(status=JobStatus.QUEUED))
        assert (after.crashes, after.status) == (1, JobStatus.QUEUED)

    def test_the_transition_table_is_law(self, store: Store, examples: Examples) -> None:
        add_job(store, examples.job())
        with pytest.raises(ConflictError, match="from validating_files to running"):
            store.change_job(examples.job(), JobChange(status=JobStatus.RUNNING), message="Go")
        assert store.job("ftjob-1") == examples.job()
        assert len(messages(store, "ftjob-1")) == 1

    def test_an_ended_job_gives_up_its_submission_and_nothing_else(
        self, store: Store, steps: Steps
    ) -> None:
        ended = steps.succeeded(store)
        with pytest.raises(ConflictError, match="already succeeded"):
            store.change_job(ended, JobChange(crashes=1))
        closed = store.change_job(ended, JobChange(submission_open=False))
        assert not closed.submission_open
        assert store.open_jobs() == []

    def test_the_end_is_dated_by_the_clock_unless_named(
        self, store: Store, examples: Examples, clock: FakeClock
    ) -> None:
        clock.advance(30)
        for name, named in [("1", None), ("2", NOW + 7)]:
            job = examples.job(name)
            add_job(store, job)
            change = {"status": JobStatus.FAILED} | ({"finished_at": named} if named else {})
            ended = store.change_job(job, JobChange.model_validate(change))
            assert ended.finished_at == (named or NOW + 30)

    def test_only_a_running_job_has_an_estimated_finish(self, store: Store, steps: Steps) -> None:
        job = store.change_job(steps.running(store), JobChange(estimated_finish=NOW + 60))
        assert job.estimated_finish == NOW + 60
        waiting = store.change_job(job, JobChange(status=JobStatus.QUEUED))
        assert waiting.estimated_finish is None


class TestCancelling:
    def test_a_cancelled_job_says_so(self, store: Store, steps: Steps) -> None:
        job = steps.running(store)
        store.change_job(job, JobChange(estimated_finish=NOW + 60))
        cancelled = store.cancel_job(job.id, now=NOW + 3)
        assert cancelled == store.job(job.id)
        assert cancelled.status is JobStatus.CANCELLED
        assert (cancelled.finished_at, cancelled.estimated_finish) == (NOW + 3, None)
        assert cancelled.submission_open
        newest = store.list_events(job.id, after=None, limit=1).items[0]
        assert (newest.message, newest.level) == ("Fine-tuning job cancelled", "info")
        assert newest.created_at == NOW + 3

    def test_an_ended_job_cannot_be_cancelled(self, store: Store, steps: Steps) -> None:
        ended = steps.succeeded(store)
        with pytest.raises(ConflictError, match="already succeeded") as caught:
            store.cancel_job(ended.id, now=NOW)
        assert caught.value.code == "job_already_ended"
        assert store.job(ended.id) == ended


class TestFinishing:
    def test_success_brings_model_results_and_events_together(
        self, store: Store, examples: Examples, steps: Steps
    ) -> None:
        job = steps.succeeded(store)
        model, results = examples.model(job), examples.results(job)
        assert job == store.job(job.id)
        assert (job.status, job.trained_tokens) == (JobStatus.SUCCEEDED, 7)
        assert (job.fine_tuned_model, job.result_files) == (model.name, (results.id,))
        assert job.finished_at == NOW
        assert store.tuned_model(model.name) == model
        assert store.file(results.id) == results
        assert messages(store, job.id)[-2:] == [
            f"New fine-tuned model created: {model.name}",
            "The job has successfully completed",
        ]

    def test_a_cancelled_job_is_not_finished(
        self, store: Store, examples: Examples, steps: Steps
    ) -> None:
        job = steps.running(store)
        cancelled = store.cancel_job(job.id, now=NOW)
        said = messages(store, job.id)
        model, results = examples.model(job), examples.results(job)
        with pytest.raises(StaleJobError):
            store.finish_job(job, JobChange(), model=model, results=results)
        assert store.job(job.id) == cancelled
        assert store.list_tuned_models() == []
        with pytest.raises(NotFoundError):
            store.file(results.id)
        assert messages(store, job.id) == said


class TestTunedModels:
    def test_models_are_listed_newest_first(self, store: Store, steps: Steps) -> None:
        for name in "12":
            steps.succeeded(store, name)
        assert [model.job_id for model in store.list_tuned_models()] == ["ftjob-2", "ftjob-1"]

    def test_a_deleted_model_is_returned_and_gone(
        self, store: Store, examples: Examples, steps: Steps
    ) -> None:
        job = steps.succeeded(store)
        model = examples.model(job)
        store.ingest(job.id, [], checkpoints=[examples.checkpoint(job, 5)])
        assert store.delete_model(model.name) == model
        assert store.list_tuned_models() == []
        assert store.list_checkpoints(job.id, after=None, limit=9).items == ()
        for gone in (store.tuned_model, store.delete_model):
            with pytest.raises(NotFoundError) as caught:
                gone(model.name)
            assert caught.value.message == f"The model '{model.name}' does not exist"
            assert (caught.value.param, caught.value.code) == ("model", "model_not_found")
