"""What every keeper of bytes does: the suite that both the disk and the fake pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.artifacts.memory import MemoryArtifacts
from tunesmith.artifacts.protocol import Artifacts
from tunesmith.artifacts.timed import TimedArtifacts
from tunesmith.domain.errors import ArtifactKeyError, ArtifactMissingError


@pytest.fixture(params=["local", "memory", "timed"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    if request.param == "memory":
        return MemoryArtifacts()
    local = LocalArtifacts(tmp_path / "data")
    return TimedArtifacts(local) if request.param == "timed" else local


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two files, one of them a level down."""
    folder = tmp_path / "made"
    (folder / "inner").mkdir(parents=True)
    (folder / "a").write_bytes(b"1")
    (folder / "inner" / "b").write_bytes(b"2")
    return folder


def test_what_is_put_can_be_got_and_the_number_of_bytes_is_told(artifacts: Artifacts) -> None:
    assert artifacts.put("files/a", b"\x00\xff") == 2
    assert artifacts.get("files/a") == b"\x00\xff"
    assert artifacts.put("files/b", iter([b"one ", b"", b"two"])) == 7
    assert artifacts.get("files/b") == b"one two"
    with artifacts.open("files/b") as file:
        assert file.readline(3) == b"one"
        assert file.read() == b" two"


def test_put_replaces_what_was_there(artifacts: Artifacts) -> None:
    artifacts.put("a", b"a long old text")
    artifacts.put("a", b"new")
    assert artifacts.get("a") == b"new"


def test_a_put_whose_source_breaks_off_leaves_the_old_bytes(artifacts: Artifacts) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    artifacts.put("old", b"old")
    for key in ("old", "new"):
        with pytest.raises(ConnectionResetError):
            artifacts.put(key, broken())
    assert artifacts.get("old") == b"old"
    assert not artifacts.exists("new")


def test_what_a_writer_took_is_seen_once_it_is_published_and_not_before(
    artifacts: Artifacts,
) -> None:
    artifacts.put("files/a", b"old")
    with artifacts.writer() as writer:
        writer.write(b"one ")
        writer.sync()
        writer.write(b"two")
        assert artifacts.list("files") == ["files/a"]
        assert artifacts.get("files/a") == b"old"
        writer.publish("files/a")
        assert artifacts.get("files/a") == b"one two"
    assert artifacts.get("files/a") == b"one two"


def test_what_a_writer_has_not_published_is_gone(artifacts: Artifacts) -> None:
    artifacts.put("a", b"old")
    with artifacts.writer() as writer:
        writer.write(b"half")
    assert artifacts.get("a") == b"old"


def test_a_writer_may_publish_nothing_at_all(artifacts: Artifacts) -> None:
    with artifacts.writer() as writer:
        writer.publish("empty")
    assert artifacts.get("empty") == b""


def test_an_open_stream_still_reads_what_it_was_opened_on(artifacts: Artifacts) -> None:
    artifacts.put("a", b"old")
    with artifacts.open("a") as file:
        artifacts.put("a", b"new")
        assert file.read() == b"old"


def test_what_is_not_there_is_said_to_be_missing(artifacts: Artifacts) -> None:
    artifacts.put("folder/a", b"1")
    for key in ("absent", "folder", "folder/a/below"):
        assert not artifacts.exists(key)
        assert artifacts.tail(key, 0) == b""
        with pytest.raises(ArtifactMissingError, match=key):
            artifacts.get(key)
        with pytest.raises(ArtifactMissingError, match=key):
            artifacts.open(key)
        with pytest.raises(ArtifactMissingError, match=key):
            artifacts.copy(key, "target")
    for prefix in ("absent", "folder/a"):
        assert artifacts.list(prefix) == []
        with pytest.raises(ArtifactMissingError, match=prefix):
            artifacts.fetch_folder(prefix)


@pytest.mark.parametrize(
    "key",
    [
        "", ".", "..", "/etc/passwd", "../a", "a/../../b", "a/./b", "a//b", "a/", "/", "a\\..\\b",
        "a\0b", "a\nb", "a/\ud800", ".aside/a", ".hidden",
    ],
)  # fmt: skip
def test_a_key_that_could_lead_elsewhere_is_refused_by_every_method(
    artifacts: Artifacts, folder: Path, key: str
) -> None:
    artifacts.put("a", b"1")
    calls: list[Callable[[], object]] = [
        lambda: artifacts.put(key, b""),
        lambda: publish(artifacts, key),
        lambda: artifacts.locked(key).__enter__(),
        lambda: artifacts.get(key),
        lambda: artifacts.open(key),
        lambda: artifacts.append(key, b""),
        lambda: artifacts.tail(key, 0),
        lambda: artifacts.exists(key),
        lambda: artifacts.list(key),
        lambda: artifacts.written_at(key),
        lambda: artifacts.copy(key, "b"),
        lambda: artifacts.copy("a", key),
        lambda: artifacts.delete(key),
        lambda: artifacts.put_folder(key, folder),
        lambda: artifacts.fetch_folder(key),
    ]
    for call in calls:
        with pytest.raises(ArtifactKeyError):
            call()
    assert artifacts.get("a") == b"1"
    assert (folder / "a").exists()


def publish(artifacts: Artifacts, key: str) -> None:
    with artifacts.writer() as writer:
        writer.publish(key)


def test_a_locked_key_is_one_writers_at_a_time(artifacts: Artifacts) -> None:
    artifacts.put("n", b"0")

    def count(_: int) -> None:
        with artifacts.locked("n"):
            artifacts.put("n", str(int(artifacts.get("n")) + 1).encode())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(40)))
    assert artifacts.get("n") == b"40"
    assert artifacts.list("n") == []


def test_a_lock_ends_with_its_block_whatever_happened(artifacts: Artifacts) -> None:
    def fail() -> None:
        with artifacts.locked("a"):
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        fail()
    with artifacts.locked("a"):
        pass


def test_append_adds_behind_what_is_there_and_tail_reads_from_an_offset(
    artifacts: Artifacts,
) -> None:
    artifacts.append("log/a", b"one\n")
    artifacts.append("log/a", b"two\n")
    assert artifacts.get("log/a") == b"one\ntwo\n"
    assert artifacts.tail("log/a", 4) == b"two\n"
    assert artifacts.tail("log/a", 8) == b""
    assert artifacts.tail("log/a", 99) == b""


def test_a_copy_does_not_follow_what_becomes_of_its_source(artifacts: Artifacts) -> None:
    artifacts.put("a", b"1")
    artifacts.copy("a", "copies/b")
    artifacts.append("a", b"2")
    artifacts.append("copies/b", b"3")
    assert (artifacts.get("a"), artifacts.get("copies/b")) == (b"12", b"13")
    artifacts.copy("a", "copies/b")
    artifacts.put("a", b"new")
    artifacts.delete("a")
    assert artifacts.get("copies/b") == b"12"


def test_list_gives_the_keys_below_a_prefix_sorted(artifacts: Artifacts) -> None:
    for key in ("runs/2/b", "runs/1/z/a", "runs/1/a", "runs/10/a", "other"):
        artifacts.put(key, b"")
    assert artifacts.list("runs/1") == ["runs/1/a", "runs/1/z/a"]
    assert artifacts.list("runs") == ["runs/1/a", "runs/1/z/a", "runs/10/a", "runs/2/b"]


def test_the_time_of_writing_is_told_and_is_that_of_the_last_write(artifacts: Artifacts) -> None:
    # A file system's clock may tick in steps and lag a little behind the machine's.
    began = time.time() - 1
    artifacts.put("files/a", b"1")
    written = artifacts.written_at("files/a")
    assert began <= written <= time.time()
    artifacts.put("files/a", b"2")
    assert artifacts.written_at("files/a") >= written
    with pytest.raises(ArtifactMissingError, match="absent"):
        artifacts.written_at("absent")


def test_dropping_what_is_unfinished_keeps_all_that_is_whole(artifacts: Artifacts) -> None:
    artifacts.put("files/a", b"1")
    assert artifacts.drop_unfinished(before=time.time() + 60) == 0
    assert artifacts.get("files/a") == b"1"


def test_delete_removes_a_key_or_all_below_it_and_nothing_else(artifacts: Artifacts) -> None:
    for key in ("runs/1/a", "runs/1/b/c", "runs/10/a", "runs/2"):
        artifacts.put(key, b"")
    artifacts.delete("runs/1")
    artifacts.delete("runs/2")
    artifacts.delete("runs/absent")
    artifacts.delete("runs/10/a/below")
    assert artifacts.list("runs") == ["runs/10/a"]


def test_put_folder_moves_the_files_and_replaces_all_that_was_there(
    artifacts: Artifacts, folder: Path
) -> None:
    artifacts.put("runs/1/old", b"0")
    artifacts.put_folder("runs/1", folder)
    assert artifacts.list("runs") == ["runs/1/a", "runs/1/inner/b"]
    assert artifacts.get("runs/1/inner/b") == b"2"
    assert not folder.exists()


def test_a_folder_made_in_scratch_moves_under_its_prefix_and_the_rest_is_gone(
    artifacts: Artifacts,
) -> None:
    with artifacts.scratch() as aside:
        assert list(aside.iterdir()) == []
        (aside / "made").mkdir()
        (aside / "made" / "a").write_bytes(b"1")
        (aside / "rest").write_bytes(b"2")
        artifacts.put_folder("runs/1", aside / "made")
        assert not (aside / "made").exists()
    assert artifacts.list("runs") == ["runs/1/a"]
    assert artifacts.get("runs/1/a") == b"1"
    assert not aside.exists()


def test_fetch_folder_gives_the_files_below_a_prefix(artifacts: Artifacts, folder: Path) -> None:
    artifacts.put_folder("runs/1", folder)
    fetched = artifacts.fetch_folder("runs/1")
    files = {path.relative_to(fetched).as_posix() for path in fetched.rglob("*") if path.is_file()}
    assert files == {"a", "inner/b"}
    assert (fetched / "inner" / "b").read_bytes() == b"2"
