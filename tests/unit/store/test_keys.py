"""Keys, projects, and the limits of what a project may have."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.exc import IntegrityError

from stores import add_job
from tunesmith.domain.clock import FakeClock
from tunesmith.domain.errors import NotFoundError, QuotaError
from tunesmith.domain.files import Purpose
from tunesmith.domain.jobs import JobChange, JobStatus
from tunesmith.domain.keys import ApiKey, Scope, new_key
from tunesmith.domain.projects import Limits
from tunesmith.domain.uploads import Upload
from tunesmith.store.protocol import Store
from tunesmith.store.sql import SqlStore

if TYPE_CHECKING:
    from unit.store.conftest import Examples


def key(project: str = "blue") -> ApiKey:
    return new_key(project, "ci", scope=Scope.WRITE, now=5, expires_at=9)[1]


def test_the_default_project_is_there_from_the_start(store: Store) -> None:
    assert [project.name for project in store.list_projects()] == ["default"]


def test_a_project_is_made_with_its_first_key(store: Store) -> None:
    first, second = key(), key()
    store.add_key(first)
    store.add_key(second)
    assert [project.name for project in store.list_projects()] == ["default", "blue"]
    assert store.list_keys() == [first, second]


def test_a_key_is_added_once(store: Store) -> None:
    one = key()
    store.add_key(one)
    with pytest.raises(IntegrityError):
        store.add_key(one.model_copy(update={"id": "key_other"}))


def test_a_revoked_key_keeps_the_time_of_its_first_revocation(
    store: Store, clock: FakeClock
) -> None:
    one, other = key(), key()
    store.add_key(one)
    store.add_key(other)
    revoked = store.revoke_key(one.id)
    clock.advance(60)
    assert revoked.revoked_at == 1_700_000_000
    assert store.revoke_key(one.id) == revoked
    assert store.list_keys() == [revoked, other]


def test_an_unknown_key_or_project_is_named_with_the_mend(store: Store) -> None:
    with pytest.raises(NotFoundError, match=r"key_x.*keys list"):
        store.revoke_key("key_x")
    with pytest.raises(NotFoundError, match=r"'red'.*keys create --project red"):
        store.set_limits("red", {"max_jobs": 1})


def test_limits_are_set_one_by_one_and_given_back(store: Store) -> None:
    store.set_limits("default", {"max_jobs": 3, "max_bytes": 10**15})
    project = store.set_limits("default", {"max_jobs": None, "requests_per_minute": 0})
    assert (project.max_jobs, project.max_bytes, project.requests_per_minute) == (None, 10**15, 0)
    assert store.list_projects() == [project]


def test_a_project_at_its_limit_of_jobs_is_told_its_use_and_the_mend(
    store: Store, examples: Examples
) -> None:
    blue = store.within("blue", Limits(max_jobs=2))
    add_job(blue, examples.job("1"))
    add_job(blue, examples.job("2"))
    with pytest.raises(QuotaError, match=r"has 2 jobs .* at most 2 .*max_jobs.*cancel"):
        add_job(blue, examples.job("3"))
    assert len(blue.list_jobs(after=None, limit=5).items) == 2


def test_a_job_that_has_ended_or_is_anothers_makes_room(store: Store, examples: Examples) -> None:
    add_job(store.within("red"), examples.job("0", training_file="file-red"))
    blue = store.within("blue", Limits(max_jobs=1))
    add_job(blue, examples.job("1"))
    blue.change_job(blue.job("ftjob-1"), JobChange(status=JobStatus.CANCELLED))
    add_job(blue, examples.job("2"))
    with pytest.raises(QuotaError):
        add_job(blue, examples.job("3"))


def test_of_jobs_added_at_once_no_more_than_the_limit_come_in(
    open_store: Callable[[], SqlStore], examples: Examples
) -> None:
    refused: list[QuotaError] = []
    start = threading.Barrier(6)

    def add(store: SqlStore, name: str) -> None:
        start.wait()
        try:
            add_job(store, examples.job(name))
        except QuotaError as error:
            refused.append(error)

    stores = [open_store().within("default", Limits(max_jobs=2)) for _ in range(6)]
    stores[0].add_file(examples.file("a"))
    threads = [
        threading.Thread(target=add, args=(store, str(number)))
        for number, store in enumerate(stores)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 4
    assert len(stores[0].list_jobs(after=None, limit=9).items) == 2


def upload(name: str, size: int) -> Upload:
    return Upload(
        id=f"upload_{name}",
        filename="big.jsonl",
        purpose=Purpose.FINE_TUNE,
        mime_type="text/jsonl",
        bytes=size,
        created_at=1_700_000_000,
        expires_at=1_700_003_600,
    )


def test_files_and_pending_uploads_count_together_against_the_limit_of_bytes(
    store: Store, examples: Examples
) -> None:
    store.within("red").add_file(examples.file("other"))
    blue = store.within("blue", Limits(max_bytes=30))
    blue.add_file(examples.file("a"))
    blue.add_upload(upload("1", 18))
    with pytest.raises(QuotaError, match=r"have 30 bytes; with 12 more .* the 30 .*max_bytes"):
        blue.add_file(examples.file("b"))
    with pytest.raises(QuotaError):
        blue.add_upload(upload("2", 1))
    with pytest.raises(QuotaError):
        blue.check_room(1)
    blue.check_room(0)
    with pytest.raises(NotFoundError):
        blue.file("file-b")


def test_an_upload_keeps_its_room_when_it_is_completed_and_gives_it_back_when_it_ends(
    store: Store, examples: Examples, clock: FakeClock
) -> None:
    blue = store.within("blue", Limits(max_bytes=40))
    blue.add_upload(upload("1", 12))
    blue.complete_upload("upload_1", examples.file("a"))
    blue.add_upload(upload("2", 28))
    blue.cancel_upload("upload_2")
    blue.add_upload(upload("3", 28))
    clock.advance(3600)
    blue.check_room(28)
    with pytest.raises(QuotaError, match="have 12 bytes"):
        blue.check_room(29)
