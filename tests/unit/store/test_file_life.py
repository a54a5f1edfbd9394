"""Files that expire, files that share their bytes, and how many bytes there are."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from stores import add_job
from tunesmith.domain.clock import FakeClock
from tunesmith.domain.errors import ConflictError, InvalidRequestError, NotFoundError
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.jobs import JobChange, JobStatus
from tunesmith.domain.uploads import UPLOAD_LIFE, Upload, UploadPart
from tunesmith.store.protocol import Store
from tunesmith.store.sql import SqlStore

if TYPE_CHECKING:
    from unit.store.conftest import Examples

START = 1_700_000_000
EXPIRY = START + 3600


def expiring(examples: Examples, name: str) -> File:
    return examples.file(name).model_copy(update={"expires_at": EXPIRY})


def upload(name: str, size: int) -> Upload:
    return Upload(
        id=f"upload_{name}",
        filename="big.jsonl",
        purpose=Purpose.FINE_TUNE,
        mime_type="application/jsonl",
        bytes=size,
        created_at=START,
        expires_at=START + UPLOAD_LIFE,
    )


def is_there(store: Store, file_id: str) -> bool:
    listed = store.list_files(purpose=None, after=None, limit=9, order="asc").items
    return file_id in {file.id for file in listed}


def test_an_expired_file_is_in_no_answer(
    store: Store, clock: FakeClock, examples: Examples
) -> None:
    store.add_file(expiring(examples, "a"))
    clock.advance(3599)
    assert store.file("file-a").expires_at == EXPIRY
    assert is_there(store, "file-a")
    assert store.expired_files() == []
    clock.advance(1)
    assert not is_there(store, "file-a")
    for ask in (store.file, store.deletable_file, store.delete_file):
        with pytest.raises(NotFoundError, match="file-a"):
            ask("file-a")
    with pytest.raises(NotFoundError):
        store.newest_file_named("train.jsonl")
    assert store.expired_files() == [expiring(examples, "a")]


@pytest.mark.parametrize("role", ["training_file", "validation_file"])
def test_a_file_that_an_unfinished_job_needs_expires_once_the_job_has_ended(
    store: Store, clock: FakeClock, examples: Examples, role: str
) -> None:
    for name in ("a", "b"):
        store.add_file(expiring(examples, name))
    other = "validation_file" if role == "training_file" else "training_file"
    job = examples.job().model_copy(update={role: "file-a", other: "file-b"})
    add_job(store, job)
    clock.advance(3600)
    assert store.file("file-a").id == "file-a"
    assert is_there(store, "file-a")
    assert store.expired_files() == []
    with pytest.raises(NotFoundError):
        store.drop_expired_file("file-a")
    store.change_job(job, JobChange(status=JobStatus.CANCELLED))
    assert not is_there(store, "file-a")
    assert {file.id for file in store.expired_files()} == {"file-a", "file-b"}
    store.drop_expired_file("file-a")
    assert {file.id for file in store.expired_files()} == {"file-b"}


def test_the_last_file_of_a_key_is_told_whatever_its_project(
    open_store: Callable[[], SqlStore], clock: FakeClock, examples: Examples
) -> None:
    whole = open_store()
    mine, yours = whole.within("mine"), whole.within("yours")
    same = {"key": "files/sha256/00/00"}
    mine.add_file(examples.file("a").model_copy(update=same))
    yours.add_file(examples.file("b").model_copy(update=same))
    yours.add_file(expiring(examples, "c").model_copy(update=same))
    clock.advance(3600)
    assert mine.delete_file("file-a") is True
    assert whole.drop_expired_file("file-c") is True
    assert whole.keys_with_files([same["key"], "files/x"]) == {same["key"]}
    assert yours.delete_file("file-b") is False
    assert whole.keys_with_files([same["key"]]) == set()


def test_a_project_has_the_bytes_of_its_files_and_of_its_pending_uploads(
    open_store: Callable[[], SqlStore], clock: FakeClock, examples: Examples
) -> None:
    whole = open_store()
    mine, yours = whole.within("mine"), whole.within("yours")
    assert mine.bytes_stored() == 0
    mine.add_file(examples.file("a"))
    yours.add_file(examples.file("b"))
    for name in ("pending", "cancelled", "completed"):
        mine.add_upload(upload(name, 100))
    assert mine.bytes_stored() == 312
    mine.cancel_upload("upload_cancelled")
    mine.complete_upload("upload_completed", examples.file("c"))
    assert mine.bytes_stored() == 124
    assert whole.bytes_stored() == 136
    clock.advance(UPLOAD_LIFE)
    assert mine.bytes_stored() == 24, "an expired upload is none"
    assert yours.bytes_stored() == 12


def test_parts_never_exceed_what_was_announced_though_they_come_at_once(
    open_store: Callable[[], SqlStore],
) -> None:
    store = open_store()
    store.add_upload(upload("1", 10))

    def add(number: int) -> str:
        part = UploadPart(id=f"part_{number}", upload_id="upload_1", created_at=START, bytes=3)
        try:
            store.add_part(part)
        except InvalidRequestError as error:
            return str(error.param)
        return "taken"

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(add, range(8)))
    assert sorted(taken) == ["data"] * 5 + ["taken"] * 3
    assert len(store.list_parts("upload_1")) == 3


@pytest.mark.parametrize("role", ["training_file", "validation_file"])
@pytest.mark.parametrize("how", ["absent", "deleted", "expired", "another project's"])
def test_a_job_without_its_files_is_not_added_and_names_the_key(
    open_store: Callable[[], SqlStore],
    clock: FakeClock,
    examples: Examples,
    role: str,
    how: str,
) -> None:
    mine, yours = open_store().within("mine"), open_store().within("yours")
    mine.add_file(examples.file("there"))
    if how == "another project's":
        yours.add_file(examples.file("gone"))
    elif how != "absent":
        mine.add_file(expiring(examples, "gone"))
    if how == "deleted":
        mine.delete_file("file-gone")
    clock.advance(3600)
    files = {"training_file": "file-there", "validation_file": "file-there", role: "file-gone"}
    with pytest.raises(NotFoundError, match="No such File object: file-gone; it may") as caught:
        mine.add_job(examples.job().model_copy(update=files))
    assert caught.value.param == role
    assert mine.list_jobs(after=None, limit=1).items == ()


def test_a_file_and_a_job_that_needs_it_never_part(
    open_store: Callable[[], SqlStore], examples: Examples
) -> None:
    store = open_store()

    def race(number: int) -> bool:
        job = examples.job(str(number), training_file=f"file-{number}")
        store.add_file(examples.file(str(number)))
        with ThreadPoolExecutor(2) as pool:
            creation = pool.submit(store.add_job, job)
            deletion = pool.submit(store.delete_file, job.training_file)
        if creation.exception() is None:
            assert isinstance(deletion.exception(), ConflictError)
            return store.file(job.training_file).id == job.training_file
        assert isinstance(creation.exception(), NotFoundError)
        return deletion.exception() is None

    assert all(race(number) for number in range(10))
