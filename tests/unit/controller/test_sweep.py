"""What a killed service left behind is cleared away, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.artifacts.memory import MemoryArtifacts
from tunesmith.cluster.fake import FakeCluster
from tunesmith.controller import sweep as sweeping
from tunesmith.controller.doors import Doors
from tunesmith.controller.sweep import UNFINISHED_AGE, UNLISTED_AGE, sweep
from tunesmith.domain.clock import FakeClock
from tunesmith.domain.files import File, Purpose
from tunesmith.store.memory import MemoryStore


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def doors(clock: FakeClock) -> Doors:
    return Doors(
        store=MemoryStore(clock),
        cluster=FakeCluster(),
        artifacts=MemoryArtifacts(clock),
        clock=clock,
    )


def upload(doors: Doors, name: str) -> str:
    key = f"files/{name}"
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


def test_the_rows_of_all_pages_are_known(
    doors: Doors, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "_PAGE", 2)
    keys = [upload(doors, f"file-{number}") for number in range(5)]
    clock.advance(UNLISTED_AGE + 1)

    sweep(doors)

    assert doors.artifacts.list("files") == keys


def test_a_write_that_never_ended_is_dropped_after_a_day(tmp_path: Path) -> None:
    clock = FakeClock(time.time())
    artifacts = LocalArtifacts(tmp_path)
    doors = Doors(store=MemoryStore(clock), cluster=FakeCluster(), artifacts=artifacts, clock=clock)
    half = tmp_path / ".aside" / "half"
    half.write_bytes(b"half")

    clock.advance(UNFINISHED_AGE - 60)
    sweep(doors)
    assert half.exists(), "a training may still be writing it"

    clock.advance(120)
    sweep(doors)
    assert not half.exists()
