"""What jobs start from: found by name, kept while it is needed, whoever asks at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from stores import add_job
from tunesmith.domain.errors import ConflictError, NotFoundError
from tunesmith.domain.jobs import Job, JobChange, JobStatus
from tunesmith.domain.models import StartingPoint, TunedModel, WholeModel
from tunesmith.store.sql import SqlStore

if TYPE_CHECKING:
    from unit.store.conftest import Examples, Steps


@pytest.fixture
def source(store: SqlStore, steps: Steps, examples: Examples) -> TunedModel:
    """A tuned model of a job that keeps the checkpoint of step 5."""
    job = steps.running(store)
    store.ingest(job.id, [], checkpoints=[examples.checkpoint(job, 5)])
    model, results = examples.model(job), examples.results(job)
    job = store.finish_job(job, JobChange(), model=model, results=results)
    store.change_job(job, JobChange(submission_open=False))
    return store.tuned_model(model.name)


def starting(examples: Examples, source: TunedModel, name: str = "2") -> Job:
    point = StartingPoint(name=source.name, base=source.base, key=source.key)
    return examples.job(name).model_copy(update={"start_from": point})


def upon(examples: Examples, source: TunedModel, name: str = "2") -> Job:
    """Return a job that tunes a new adapter on `source`, a whole model."""
    whole = WholeModel(name=source.name, key=source.key)
    point = StartingPoint(name=source.name, base=source.base, key=None, beneath=whole)
    return examples.job(name).model_copy(update={"start_from": point})


def checkpoint(store: SqlStore, source: TunedModel) -> TunedModel:
    [saved] = store.list_checkpoints(source.job_id, after=None, limit=2).items
    return store.tuned_model(saved.model)


def test_a_checkpoint_is_a_model_of_its_jobs_base(store: SqlStore, source: TunedModel) -> None:
    found = checkpoint(store, source)
    assert (found.base, found.job_id, found.key) == (
        *("tiny", source.job_id),
        f"output/{source.job_id}/checkpoint-5",
    )


def test_a_job_keeps_what_it_starts_from(
    store: SqlStore, source: TunedModel, examples: Examples
) -> None:
    job = starting(examples, source)
    add_job(store, job)
    assert store.job(job.id).start_from == job.start_from
    assert store.job(job.id).base == "tiny"


@pytest.mark.parametrize("which", ["tuned", "checkpoint"])
def test_a_model_cannot_retire_while_an_unfinished_job_starts_from_it_or_its_checkpoint(
    store: SqlStore, source: TunedModel, examples: Examples, which: str
) -> None:
    begun = source if which == "tuned" else checkpoint(store, source)
    add_job(store, starting(examples, begun))
    with pytest.raises(ConflictError, match="ftjob-2"):
        store.retire_model(source.name)
    store.cancel_job("ftjob-2", now=1)
    assert store.retire_model(source.name).deleting


def made(store: SqlStore, examples: Examples, job: Job) -> TunedModel:
    """Bring `job` to its end, and return the model that it made."""
    add_job(store, job)
    store.change_job(store.job(job.id), JobChange(status=JobStatus.QUEUED))
    running = store.change_job(store.job(job.id), JobChange(status=JobStatus.RUNNING))
    model, results = examples.model(running), examples.results(running)
    store.finish_job(running, JobChange(), model=model, results=results)
    return store.tuned_model(model.name)


def test_a_whole_model_cannot_retire_while_there_is_an_adapter_that_was_tuned_on_it(
    store: SqlStore, source: TunedModel, examples: Examples
) -> None:
    job = upon(examples, source)
    adapter = made(store, examples, job)
    with pytest.raises(ConflictError, match=r"mean nothing without it.*ftjob-2.*Delete"):
        store.retire_model(source.name)

    further = StartingPoint(
        name=adapter.name,
        base=adapter.base,
        key=adapter.key,
        beneath=WholeModel(name=source.name, key=source.key),
    )
    add_job(store, examples.job("3").model_copy(update={"start_from": further}))
    with pytest.raises(ConflictError, match=r"unfinished.*ftjob-3"):
        store.retire_model(source.name)

    store.cancel_job("ftjob-3", now=1)
    store.retire_model(adapter.name)
    store.delete_model(adapter.name)
    assert store.retire_model(source.name).deleting


def test_what_was_made_of_all_weights_needs_the_whole_model_no_more(
    store: SqlStore, source: TunedModel, examples: Examples
) -> None:
    job = upon(examples, source)
    whole = job.model_copy(update={"request": job.request.model_copy(update={"lora": None})})
    made(store, examples, whole)
    assert store.retire_model(source.name).deleting


def test_no_job_starts_from_a_model_that_has_retired_nor_from_its_checkpoints(
    store: SqlStore, source: TunedModel, examples: Examples
) -> None:
    saved = checkpoint(store, source)
    store.retire_model(source.name)
    for gone in (source, saved):
        with pytest.raises(NotFoundError):
            store.startable_model(gone.name)
        with pytest.raises(NotFoundError):
            add_job(store, starting(examples, gone))
    assert store.open_jobs() == []
    assert store.tuned_model(source.name).deleting


def test_a_job_that_starts_and_a_deletion_never_both_succeed(
    open_store: Callable[[], SqlStore], store: SqlStore, source: TunedModel, examples: Examples
) -> None:
    begun = threading.Barrier(2)
    outcomes: dict[str, bool] = {}

    def race(name: str, act: Callable[[SqlStore], object]) -> None:
        mine = open_store()
        begun.wait()
        try:
            act(mine)
            outcomes[name] = True
        except (ConflictError, NotFoundError):
            outcomes[name] = False

    threads = [
        threading.Thread(
            target=race, args=("job", lambda s: add_job(s, starting(examples, source)))
        ),
        threading.Thread(target=race, args=("delete", lambda s: s.retire_model(source.name))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes.values()) == [False, True]
