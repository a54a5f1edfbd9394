"""What every store does with uploads and their parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tunesmith.domain.clock import FakeClock
from tunesmith.domain.errors import ConflictError, NotFoundError
from tunesmith.domain.files import Purpose
from tunesmith.domain.uploads import UPLOAD_LIFE, Upload, UploadPart, UploadStatus
from tunesmith.store.protocol import Store
from tunesmith.store.sql import SqlStore

if TYPE_CHECKING:
    from unit.store.conftest import Examples

START = 1_700_000_000


def upload(name: str = "1") -> Upload:
    return Upload(
        id=f"upload_{name}",
        filename="big.jsonl",
        purpose=Purpose.FINE_TUNE,
        mime_type="application/jsonl",
        bytes=8 * 1024**3,
        created_at=START,
        expires_at=START + UPLOAD_LIFE,
    )


def part(name: str, *, of: str = "1") -> UploadPart:
    return UploadPart(id=f"part_{name}", upload_id=f"upload_{of}", created_at=START, bytes=3)


def test_an_upload_comes_back_as_it_was_added(store: Store) -> None:
    store.add_upload(upload())
    assert store.pending_upload("upload_1") == upload()


def test_the_parts_of_an_upload_are_its_own_in_the_order_of_arrival(store: Store) -> None:
    store.add_upload(upload("1"))
    store.add_upload(upload("2"))
    for each in (part("b"), part("x", of="2"), part("a")):
        store.add_part(each)
    assert store.list_parts("upload_1") == [part("b"), part("a")]


def test_a_completed_upload_names_its_file_which_is_there(store: Store, examples: Examples) -> None:
    store.add_upload(upload())
    done = store.complete_upload("upload_1", examples.file("a"))
    assert (done.status, done.file_id) == (UploadStatus.COMPLETED, "file-a")
    assert store.file("file-a") == examples.file("a")


def test_a_cancelled_upload_says_so(store: Store) -> None:
    store.add_upload(upload())
    assert store.cancel_upload("upload_1").status is UploadStatus.CANCELLED


@pytest.mark.parametrize("end", ["completed as file 'file-a'", "cancelled", "expired"])
def test_an_upload_that_has_ended_takes_nothing_more(
    store: Store, clock: FakeClock, examples: Examples, end: str
) -> None:
    store.add_upload(upload())
    if end == "expired":
        clock.advance(UPLOAD_LIFE)
    elif end == "cancelled":
        store.cancel_upload("upload_1")
    else:
        store.complete_upload("upload_1", examples.file("a"))
    attempts: list[Callable[[], object]] = [
        lambda: store.pending_upload("upload_1"),
        lambda: store.add_part(part("a")),
        lambda: store.complete_upload("upload_1", examples.file("b")),
        lambda: store.cancel_upload("upload_1"),
    ]
    for attempt in attempts:
        with pytest.raises(ConflictError, match=f"^Upload 'upload_1' is {end}, ") as caught:
            attempt()
        assert (caught.value.param, caught.value.code) == ("upload_id", "upload_not_pending")
    assert store.list_parts("upload_1") == []
    with pytest.raises(NotFoundError):
        store.file("file-b")


def test_an_upload_lives_until_the_last_second(store: Store, clock: FakeClock) -> None:
    store.add_upload(upload())
    clock.advance(UPLOAD_LIFE - 1)
    assert store.pending_upload("upload_1").status is UploadStatus.PENDING


def test_an_unknown_upload_is_named(store: Store, examples: Examples) -> None:
    attempts: list[Callable[[], object]] = [
        lambda: store.pending_upload("upload_1"),
        lambda: store.add_part(part("a")),
        lambda: store.complete_upload("upload_1", examples.file("a")),
        lambda: store.cancel_upload("upload_1"),
    ]
    for attempt in attempts:
        with pytest.raises(NotFoundError, match=r"^No such Upload object: upload_1$") as caught:
            attempt()
        assert caught.value.param == "upload_id"


def test_uploads_and_parts_outlive_a_restart(open_store: Callable[[], SqlStore]) -> None:
    first = open_store()
    first.add_upload(upload())
    first.add_part(part("a"))
    first.close()
    again = open_store()
    assert again.pending_upload("upload_1") == upload()
    assert again.list_parts("upload_1") == [part("a")]
