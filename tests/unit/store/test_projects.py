"""A store within a project: it finds nothing of another project, whatever is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from stores import add_job
from tunesmith.domain.errors import InvalidRequestError, NotFoundError
from tunesmith.domain.files import Purpose
from tunesmith.domain.ids import Dialect
from tunesmith.domain.jobs import JobChange
from tunesmith.domain.uploads import Upload, UploadPart
from tunesmith.domain.webhooks import WebhookEndpoint, WebhookEvent, new_secret
from tunesmith.store.sql import SqlStore

if TYPE_CHECKING:
    from unit.store.conftest import Examples, Steps

UPLOAD = Upload(
    id="upload_1",
    filename="big.jsonl",
    purpose=Purpose.FINE_TUNE,
    mime_type="text/jsonl",
    bytes=9,
    created_at=1_700_000_000,
    expires_at=1_700_003_600,
)

ENDPOINT = WebhookEndpoint(
    id="we_1",
    created_at=1,
    updated_at=1,
    name="ci",
    url="https://ci.example/",
    event_types=tuple(WebhookEvent),
    secret=new_secret(),
)


@pytest.fixture
def theirs(open_store: Callable[[], SqlStore], steps: Steps, examples: Examples) -> SqlStore:
    """A project with a file, an upload, a succeeded job, its events, checkpoints and model."""
    store = open_store().within("theirs")
    store.add_file(examples.file("a"))
    store.add_endpoint(ENDPOINT)
    store.add_upload(UPLOAD)
    store.add_part(UploadPart(id="part_1", upload_id=UPLOAD.id, created_at=1, bytes=9))
    job = steps.running(store)
    store.ingest(job.id, [], checkpoints=[examples.checkpoint(job, 5)])
    model, results = examples.model(job), examples.results(job)
    store.finish_job(job, JobChange(trained_tokens=7), model=model, results=results)
    return store


@pytest.fixture
def ours(open_store: Callable[[], SqlStore], theirs: SqlStore) -> SqlStore:
    return open_store().within("ours")


def test_what_a_project_adds_belongs_to_it(theirs: SqlStore, examples: Examples) -> None:
    job = theirs.job("ftjob-1")
    assert job.project == "theirs"
    assert theirs.file("file-a").project == "theirs"
    assert theirs.tuned_model(examples.model(job).name).project == "theirs"
    assert theirs.file(job.result_files[0]).project == "theirs"
    upload = theirs.complete_upload("upload_1", examples.file("b"))
    assert upload.project == theirs.file("file-b").project == "theirs"


def test_what_a_job_makes_belongs_to_its_project_though_the_controller_adds_it(
    open_store: Callable[[], SqlStore], steps: Steps, examples: Examples
) -> None:
    job = steps.running(open_store().within("theirs"))
    model, results = examples.model(job), examples.results(job)
    open_store().finish_job(job, JobChange(), model=model, results=results)
    assert open_store().tuned_model(model.name).project == "theirs"
    assert open_store().file(results.id).project == "theirs"


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.file("file-a"),
        lambda store: store.newest_file_named("train.jsonl"),
        lambda store: store.deletable_file("file-a"),
        lambda store: store.delete_file("file-a"),
        lambda store: store.pending_upload("upload_1"),
        lambda store: store.add_part(
            UploadPart(id="part_2", upload_id="upload_1", created_at=1, bytes=1)
        ),
        lambda store: store.cancel_upload("upload_1"),
        lambda store: store.job("ftjob-1"),
        lambda store: store.cancel_job("ftjob-1", now=1),
        lambda store: store.pause_job("ftjob-1"),
        lambda store: store.resume_job("ftjob-1"),
        lambda store: store.list_events("ftjob-1", after=None, limit=5),
        lambda store: store.events_behind("ftjob-1", after=None, limit=5),
        lambda store: store.list_checkpoints("ftjob-1", after=None, limit=5),
        lambda store: store.drop_checkpoints("ftjob-1", keep=()),
        lambda store: store.ingest("ftjob-1", [], checkpoints=[]),
        lambda store: store.tuned_model("ft:tiny:tunesmith::ftjob-1"),
        lambda store: store.delete_model("ft:tiny:tunesmith::ftjob-1"),
        lambda store: store.endpoint("we_1"),
        lambda store: store.change_endpoint("we_1", {"name": "mine"}),
        lambda store: store.delete_endpoint("we_1"),
        lambda store: store.list_deliveries("we_1", after=None, limit=5),
        lambda store: store.retry_delivery("we_1", "wh_1"),
    ],
)
def test_what_belongs_to_another_project_does_not_exist(
    ours: SqlStore, ask: Callable[[SqlStore], object]
) -> None:
    with pytest.raises(NotFoundError):
        ask(ours)


def test_lists_hold_nothing_of_another_project(ours: SqlStore) -> None:
    files = ours.list_files(purpose=None, after=None, limit=5, order="desc")
    assert files.items == ()
    assert ours.list_jobs(after=None, limit=5).items == ()
    assert ours.list_jobs(after=None, limit=5, metadata={"team": "blue"}).items == ()
    assert ours.open_jobs() == []
    assert ours.list_endpoints(after=None, limit=5).items == ()
    assert ours.list_tuned_models() == []
    assert ours.list_parts("upload_1") == []


def test_a_cursor_of_another_project_is_unknown(ours: SqlStore) -> None:
    with pytest.raises(InvalidRequestError, match="names nothing"):
        ours.list_jobs(after="ftjob-1", limit=5)
    with pytest.raises(InvalidRequestError, match="names nothing"):
        ours.list_files(purpose=None, after="file-a", limit=5, order="asc")


def test_the_store_as_a_whole_sees_every_project(
    open_store: Callable[[], SqlStore], theirs: SqlStore, examples: Examples
) -> None:
    add_job(open_store().within("ours"), examples.job("2", training_file="file-o"))
    jobs = open_store().list_jobs(after=None, limit=5).items
    assert [job.project for job in jobs] == ["ours", "theirs"]
    assert all(job.dialect is Dialect.OPENAI for job in jobs)
