from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.domain.errors import DiskFullError

KILLED_IN_PUT = """
import sys, time
from pathlib import Path
from tunesmith.artifacts.local import LocalArtifacts

def chunks():
    yield b"half of the new bytes" * 10_000
    print("written", flush=True)
    time.sleep(60)

LocalArtifacts(Path(sys.argv[1])).put("files/a", chunks())
"""


@pytest.fixture
def artifacts(tmp_path: Path) -> LocalArtifacts:
    return LocalArtifacts(tmp_path)


def leftovers(root: Path) -> list[Path]:
    return list((root / ".aside").iterdir())


def test_a_writer_killed_in_mid_put_leaves_the_old_bytes(
    artifacts: LocalArtifacts, tmp_path: Path
) -> None:
    artifacts.put("files/a", b"old")
    command = [sys.executable, "-c", KILLED_IN_PUT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        writer.send_signal(signal.SIGKILL)
    assert writer.returncode == -signal.SIGKILL
    again = LocalArtifacts(tmp_path)
    assert again.get("files/a") == b"old"
    assert again.list("files") == ["files/a"]


def test_what_killed_writers_left_aside_is_dropped_once_it_is_old(
    artifacts: LocalArtifacts, tmp_path: Path
) -> None:
    artifacts.put("files/a", b"whole")
    half_file, half_folder = (tmp_path / ".aside" / name for name in ("1", "2"))
    half_file.write_bytes(b"half")
    (half_folder / "inner").mkdir(parents=True)
    (half_folder / "inner" / "b").write_bytes(b"half")
    # As `copytree` leaves them: with the dates of their source.
    for path in (half_file, half_folder, half_folder / "inner" / "b"):
        os.utime(path, (0, 0))

    assert artifacts.drop_unfinished(before=time.time() - 60) == 0
    assert sorted(leftovers(tmp_path)) == [half_file, half_folder], "they may still be written"
    assert artifacts.drop_unfinished(before=time.time() + 60) == 2
    assert leftovers(tmp_path) == []
    assert artifacts.get("files/a") == b"whole"


def test_keys_are_paths_below_the_root_for_people_to_find(
    artifacts: LocalArtifacts, tmp_path: Path
) -> None:
    artifacts.put("output/ftjob-1/adapter_config.json", b"{}")
    assert (tmp_path / "output" / "ftjob-1" / "adapter_config.json").read_bytes() == b"{}"
    assert artifacts.fetch_folder("output/ftjob-1") == tmp_path / "output" / "ftjob-1"


def test_copy_links_and_takes_no_room(artifacts: LocalArtifacts, tmp_path: Path) -> None:
    artifacts.put("a", b"1")
    artifacts.copy("a", "b")
    assert (tmp_path / "a").samefile(tmp_path / "b")


def test_copy_copies_where_the_file_system_has_no_links(
    artifacts: LocalArtifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    artifacts.put("a", b"1")
    artifacts.copy("a", "b")
    assert artifacts.get("b") == b"1"
    assert not (tmp_path / "a").samefile(tmp_path / "b")


def test_a_folder_is_replaced_at_once_and_nothing_is_left_aside(
    artifacts: LocalArtifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts.put("runs/1/old", b"0")
    new = tmp_path / "new"
    new.mkdir()
    (new / "a").write_bytes(b"1")
    seen: list[list[str]] = []
    remove = shutil.rmtree

    def watched(path: Path, *, ignore_errors: bool = False) -> None:
        seen.append(artifacts.list("runs"))
        remove(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", watched)
    artifacts.put_folder("runs/1", new)
    assert seen
    assert all(keys == ["runs/1/a"] for keys in seen), "the slow removal comes afterwards"
    assert leftovers(tmp_path) == []


def test_a_folder_that_cannot_be_stored_leaves_the_old_one_and_itself(
    artifacts: LocalArtifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    artifacts.put("runs/1/old", b"0")
    new = tmp_path / "new"
    new.mkdir()
    (new / "a").write_bytes(b"1")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match="disk is full"):
        artifacts.put_folder("runs/1", new)
    assert artifacts.list("runs") == ["runs/1/old"]
    assert (new / "a").exists()
    assert leftovers(tmp_path) == []
    for write in (artifacts.put, artifacts.append):
        with pytest.raises(DiskFullError):
            write("runs/1/old", b"new")
        assert artifacts.get("runs/1/old") == b"0"
    assert leftovers(tmp_path) == []


def test_a_folder_whose_copy_finds_no_room_is_told_as_a_full_disk(
    artifacts: LocalArtifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    new = tmp_path / "new"
    new.mkdir()
    (new / "a").write_bytes(b"1")
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(DiskFullError):
        artifacts.put_folder("runs/1", new)
    assert (new / "a").exists()
    assert leftovers(tmp_path) == []


def test_an_append_that_finds_no_room_leaves_nothing_of_itself(
    artifacts: LocalArtifacts,
) -> None:
    artifacts.append("log", b"one\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            artifacts.append("log", b"two, and longer than fits\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert artifacts.get("log") == b"one\n"
    artifacts.append("log", b"three\n")
    assert artifacts.get("log") == b"one\nthree\n"


def test_an_append_that_cannot_be_brought_to_the_disk_is_taken_back(
    artifacts: LocalArtifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    artifacts.append("log", b"one\n")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        artifacts.append("log", b"two\n")
    assert artifacts.get("log") == b"one\n"


def test_a_folder_made_in_scratch_is_moved_and_not_copied(
    artifacts: LocalArtifacts, tmp_path: Path
) -> None:
    with artifacts.scratch() as aside:
        (aside / "made").mkdir()
        (aside / "made" / "a").write_bytes(b"1")
        inode = (aside / "made" / "a").stat().st_ino
        artifacts.put_folder("runs/1", aside / "made")
    assert (tmp_path / "runs" / "1" / "a").stat().st_ino == inode
    assert leftovers(tmp_path) == []


def test_several_writers_of_one_folder_all_end_well_and_one_of_them_wins_whole(
    artifacts: LocalArtifacts, tmp_path: Path
) -> None:
    def write(writer: int) -> None:
        for attempt in range(20):
            new = tmp_path / f"new-{writer}-{attempt}"
            new.mkdir()
            for name in "ab":
                (new / name).write_text(str(writer))
            artifacts.put_folder("models/m", new)

    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(write, number) for number in range(3)]:
            done.result()
    assert artifacts.list("models") == ["models/m/a", "models/m/b"]
    assert artifacts.get("models/m/a") == artifacts.get("models/m/b")
    assert leftovers(tmp_path) == []


def test_a_writer_leaves_nothing_aside(artifacts: LocalArtifacts, tmp_path: Path) -> None:
    with artifacts.writer() as writer:
        writer.write(b"1")
        assert len(leftovers(tmp_path)) == 1
        writer.publish("files/a")
        assert leftovers(tmp_path) == []
    with artifacts.writer() as writer:
        writer.write(b"1")
    assert leftovers(tmp_path) == []


def test_a_key_below_a_folder_that_is_deleted_meanwhile_is_stored_all_the_same(
    artifacts: LocalArtifacts,
) -> None:
    done = threading.Event()

    def delete() -> None:
        while not done.is_set():
            artifacts.delete("uploads/1")

    with ThreadPoolExecutor(1) as pool:
        deletion = pool.submit(delete)
        try:
            for _ in range(300):
                artifacts.put("uploads/1/a", b"1")
        finally:
            done.set()
        deletion.result()
    artifacts.put("uploads/1/a", b"1")
    assert artifacts.get("uploads/1/a") == b"1"


def test_a_write_that_was_given_up_meanwhile_says_so(
    artifacts: LocalArtifacts, tmp_path: Path
) -> None:
    with artifacts.writer() as writer:
        artifacts.drop_unfinished(before=time.time() + 60)
        with pytest.raises(FileNotFoundError):
            writer.publish("files/a")
    assert not artifacts.exists("files/a")
