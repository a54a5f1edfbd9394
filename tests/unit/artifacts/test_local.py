from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tunesmith.artifacts.local import LocalArtifacts

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
    with pytest.raises(OSError, match="No space left"):
        artifacts.put_folder("runs/1", new)
    assert artifacts.list("runs") == ["runs/1/old"]
    assert (new / "a").exists()
    assert leftovers(tmp_path) == []
    with pytest.raises(OSError, match="No space left"):
        artifacts.put("runs/1/old", b"new")
    assert artifacts.get("runs/1/old") == b"0"
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
