"""What a killed service left behind is cleared away, and nothing else."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from stores import fresh_store
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.artifacts.memory import MemoryArtifacts
from tunesmith.cluster.fake import FakeCluster
from tunesmith.controller import sweep as sweeping
from tunesmith.controller.doors import Doors
from tunesmith.controller.sweep import (
    SWEEP_PAUSE,
    UNFINISHED_AGE,
    UNLISTED_AGE,
    drop_expired,
    keep_swept,
    sweep,
)
from tunesmith.domain.clock import FakeClock
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.retention import Retention
from tunesmith.domain.uploads import UPLOAD_LIFE, Upload, UploadPart
from tunesmith.store.sql import SqlStore


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def doors(clock: FakeClock) -> Doors:
    return Doors(
        store=fresh_store(clock),
        cluster=FakeCluster(),
        artifacts=MemoryArtifacts(clock),
        clock=clock,
    )


def upload(doors: Doors, name: str, *, key: str = "", expires_at: int | None = None) -> str:
    key = key or f"files/{name}"
    size = doors.artifacts.put(key, b"1")
    doors.store.add_file(
        File(
            id=name,
            filename=f"{name}.jsonl",
            purpose=Purpose.FINE_TUNE,
            bytes=size,
            sha256="0",
            created_at=0,
            key=key,
            expires_at=expires_at,
        )
    )
    return key


def test_an_upload_without_a_row_is_dropped_once_it_is_old(doors: Doors, clock: FakeClock) -> None:
    listed = upload(doors, "file-1")
    doors.artifacts.put("files/file-lost", b"1")
    doors.artifacts.put("runs/ftjob-1/spec.json", b"{}")

    clock.advance(UNLISTED_AGE)
    sweep(doors)
    assert doors.artifacts.exists("files/file-lost"), "its row may be on its way"

    clock.advance(1)
    doors.artifacts.put("files/file-new", b"1")
    sweep(doors)
    assert doors.artifacts.list("files") == [listed, "files/file-new"]
    assert doors.artifacts.exists("runs/ftjob-1/spec.json"), "only uploads have rows"


def test_the_rows_of_all_batches_are_known(
    doors: Doors, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "_BATCH", 2)
    keys = [upload(doors, f"file-{number}") for number in range(5)]
    clock.advance(UNLISTED_AGE + 1)

    sweep(doors)

    assert doors.artifacts.list("files") == keys


def announce(doors: Doors, name: str) -> UploadPart:
    """Create an upload and bring one part of it."""
    now = int(doors.clock.now())
    announced = Upload(
        id=name,
        filename="a.jsonl",
        purpose=Purpose.FINE_TUNE,
        mime_type="application/jsonl",
        bytes=2,
        created_at=now,
        expires_at=now + UPLOAD_LIFE,
    )
    doors.store.add_upload(announced)
    part = UploadPart(id=f"part-of-{name}", upload_id=name, created_at=now, bytes=1)
    doors.artifacts.put(part.key, b"1")
    doors.store.add_part(part)
    return part


def test_parts_are_dropped_once_their_upload_has_ended(doors: Doors, clock: FakeClock) -> None:
    announce(doors, "upload_expired")
    clock.advance(UPLOAD_LIFE - 1)
    announce(doors, "upload_cancelled")
    pending = announce(doors, "upload_pending")
    sweep(doors)
    assert len(doors.artifacts.list("uploads")) == 3, "all are pending"

    doors.store.cancel_upload("upload_cancelled")
    clock.advance(1)
    sweep(doors)
    assert doors.artifacts.list("uploads") == [pending.key]


class Minutes(threading.Event):
    """A stop that lets each wait pass on the clock, and is set after `left` of them."""

    def __init__(self, clock: FakeClock, *, left: int) -> None:
        super().__init__()
        self._clock, self._left = clock, left

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self._clock.advance(timeout)
        self._left -= 1
        if not self._left:
            self.set()
        return self.is_set()


def test_the_folder_is_swept_every_hour_whatever_fails(
    doors: Doors, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[float] = []

    def sweep_badly(doors: Doors) -> None:
        swept.append(doors.clock.now())
        raise OSError("The disk is asleep")

    monkeypatch.setattr(sweeping, "sweep", sweep_badly)
    start = clock.now()
    keep_swept(doors, Minutes(clock, left=121), retention=Retention())
    assert swept == [start, start + SWEEP_PAUSE, start + 2 * SWEEP_PAUSE]


def test_a_write_that_never_ended_is_dropped_after_a_day(tmp_path: Path) -> None:
    clock = FakeClock(time.time())
    artifacts = LocalArtifacts(tmp_path)
    doors = Doors(store=fresh_store(clock), cluster=FakeCluster(), artifacts=artifacts, clock=clock)
    half = tmp_path / ".aside" / "half"
    half.write_bytes(b"half")

    clock.advance(UNFINISHED_AGE - 60)
    sweep(doors)
    assert half.exists(), "a training may still be writing it"

    clock.advance(120)
    sweep(doors)
    assert not half.exists()


def test_what_has_expired_is_dropped_with_its_bytes_unless_another_file_has_them(
    doors: Doors, clock: FakeClock
) -> None:
    soon = int(clock.now()) + 60
    upload(doors, "file-alone", expires_at=soon)
    shared = upload(doors, "file-shared", key="files/sha256/00/00", expires_at=soon)
    upload(doors, "file-other", key=shared, expires_at=soon + 60)

    drop_expired(doors)
    assert len(doors.artifacts.list("files")) == 2, "nothing has expired yet"

    clock.advance(60)
    drop_expired(doors)
    assert doors.artifacts.list("files") == [shared]
    assert doors.store.expired_files() == []

    clock.advance(60)
    drop_expired(doors)
    assert doors.artifacts.list("files") == []


def test_what_expires_is_dropped_every_minute(doors: Doors, clock: FakeClock) -> None:
    upload(doors, "file-1", expires_at=int(clock.now()) + 90)
    keep_swept(doors, Minutes(clock, left=2), retention=Retention())
    assert doors.artifacts.list("files") == ["files/file-1"]
    keep_swept(doors, Minutes(clock, left=1), retention=Retention())
    assert doors.artifacts.list("files") == []


def test_bytes_that_are_uploaded_again_while_the_sweep_looks_stay(
    doors: Doors, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "files/sha256/00/00"
    doors.artifacts.put(key, b"1")
    clock.advance(UNLISTED_AGE + 1)
    plain = type(doors.store).keys_with_files

    def overtaken(store: SqlStore, keys: list[str]) -> set[str]:
        monkeypatch.setattr(type(doors.store), "keys_with_files", plain)
        named = plain(store, keys)
        upload(doors, "file-1", key=key)
        return named

    monkeypatch.setattr(type(doors.store), "keys_with_files", overtaken)
    sweep(doors)
    assert doors.artifacts.get(key) == b"1"
