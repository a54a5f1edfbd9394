"""On a disk that is really full, what is written is refused by name, and nothing half is read."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.cli.backups import back_up, restore
from tunesmith.cli.database import open_store
from tunesmith.domain.errors import DiskFullError, NotFoundError
from tunesmith.domain.events import RunEvent
from tunesmith.domain.files import File, Purpose
from tunesmith.settings import Settings, load_settings

MIB = 2**20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    done = subprocess.run(mount, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"A file system of some MB cannot be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, *, leave: int) -> Path:
    """Write a file that leaves `leave` bytes of the disk of `place` free."""
    stats = os.statvfs(place)
    path = place / "other"
    path.write_bytes(bytes(stats.f_bavail * stats.f_frsize - leave))
    return path


def a_file(name: str) -> File:
    return File(
        id=name,
        filename="x" * 200_000,
        purpose=Purpose.FINE_TUNE,
        bytes=1,
        sha256="0",
        created_at=0,
        key=f"files/{name}",
    )


def settings_of(data: Path, *, floor: int = 0) -> Settings:
    return load_settings({"data": data, "min_free_bytes": floor})


def test_bytes_that_find_no_room_are_not_there(small: Path) -> None:
    artifacts = LocalArtifacts(small)
    artifacts.put("files/a", b"old")
    fill(small, leave=MIB)
    with pytest.raises(DiskFullError):
        artifacts.put("files/a", bytes(2 * MIB))
    assert artifacts.get("files/a") == b"old"
    assert list((small / ".aside").iterdir()) == []


def save_checkpoint(run: RunDirectory) -> None:
    with run.scratch() as aside:
        folder = aside / "checkpoint"
        folder.mkdir()
        (folder / "weights").write_bytes(bytes(2 * MIB))
        run.save_checkpoint(1, folder)


def test_a_checkpoint_that_finds_no_room_is_not_there_and_the_events_stay_whole(
    small: Path,
) -> None:
    run = RunDirectory(LocalArtifacts(small), "ftjob-1")
    run.append_event(RunEvent(number=1, created_at=0, message="one"))
    fill(small, leave=MIB)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(run)
    assert run.checkpoint_steps() == []
    with pytest.raises(DiskFullError):
        run.append_event(RunEvent(number=2, created_at=0, message="x" * 2 * MIB))
    run.append_event(RunEvent(number=2, created_at=0, message="two"))
    assert [event.message for event in run.events(after=0)] == ["one", "two"]


def test_a_database_without_room_says_so_and_goes_on_with_some(small: Path) -> None:
    store = open_store(small)
    store.add_file(a_file("file-a"))
    other = fill(small, leave=0)
    with pytest.raises(DiskFullError):
        store.add_file(a_file("file-b"))
    other.unlink()
    assert store.file("file-a").id == "file-a"
    with pytest.raises(NotFoundError):
        store.file("file-b")
    store.add_file(a_file("file-b"))
    store.close()


@pytest.mark.parametrize("floor", [0, 3 * MIB])
def test_a_backup_that_finds_no_room_leaves_nothing(
    small: Path, tmp_path: Path, floor: int
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    LocalArtifacts(data).put("files/file-a", bytes(6 * MIB))
    store = open_store(data)
    store.add_file(a_file("file-a"))
    store.close()
    fill(small, leave=6 * MIB)
    with pytest.raises(DiskFullError):
        back_up(settings_of(data, floor=floor), small / "backup")
    assert [path.name for path in small.iterdir()] == ["other"]
    if floor:
        free = os.statvfs(small).f_bavail * os.statvfs(small).f_frsize
        assert free >= floor


def test_a_restore_that_finds_no_room_leaves_nothing(small: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    LocalArtifacts(data).put("files/file-a", bytes(6 * MIB))
    store = open_store(data)
    store.add_file(a_file("file-a"))
    store.close()
    back_up(settings_of(data), tmp_path / "backup")
    fill(small, leave=5 * MIB)
    with pytest.raises(DiskFullError):
        restore(settings_of(small / "new"), tmp_path / "backup")
    assert [path.name for path in (small / "new").iterdir()] == ["serve.lock"]
