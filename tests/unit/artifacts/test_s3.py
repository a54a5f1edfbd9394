"""What only artifacts in a bucket do: parts, ranges, writers that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import patch

import pytest

from s3_server import S3Server
from tunesmith.artifacts import s3_lock
from tunesmith.artifacts.s3 import S3Artifacts
from tunesmith.artifacts.s3_bucket import PART, ReplacedError
from tunesmith.artifacts.s3_growing import FULL

LARGE = bytes(range(256)) * (PART // 256) + b"the rest"
"""More than a part."""

KILLED_IN_PUT = """
import sys, time
from tunesmith.artifacts.s3 import S3Artifacts

def chunks():
    yield b"half" * (3 << 20)
    print("sent", flush=True)
    time.sleep(60)

S3Artifacts(sys.argv[1]).put("files/a", chunks())
"""

KILLED_IN_LOCK = """
import sys, time
from tunesmith.artifacts.s3 import S3Artifacts

with S3Artifacts(sys.argv[1]).locked("a"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def artifacts(s3_url: str) -> S3Artifacts:
    return S3Artifacts(s3_url, attempts=3)


def kill_once_it_says(word: bytes, program: str, url: str) -> None:
    command = [sys.executable, "-c", program, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ.copy()) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline().strip() == word
        writer.send_signal(signal.SIGKILL)


def test_what_is_larger_than_a_part_goes_in_parts_and_is_whole(
    artifacts: S3Artifacts, server: S3Server
) -> None:
    server.requests.clear()
    assert artifacts.put("files/a", iter([LARGE[:100], LARGE[100:]])) == len(LARGE)
    assert [request for request in server.requests if "partNumber=2" in request]
    with artifacts.writer() as writer:
        writer.write(LARGE)
        writer.publish("files/b")
    assert artifacts.get("files/a") == artifacts.get("files/b") == LARGE
    assert artifacts.list("files") == ["files/a", "files/b"]
    assert not server.names(f"{prefix_of(artifacts)}.aside/")


def prefix_of(artifacts: S3Artifacts) -> str:
    return artifacts._bucket.path("")


def test_a_stream_reads_ranges_wherever_it_is_sent(
    artifacts: S3Artifacts, server: S3Server
) -> None:
    artifacts.put("a", LARGE)
    with artifacts.open("a") as file:
        assert file.seek(-8, os.SEEK_END) == PART
        assert file.read() == b"the rest"
        assert file.seek(5_000_001) == 5_000_001
        assert file.read(3) == LARGE[5_000_001:5_000_004]
        file.seek(0)
        assert b"".join(iter(lambda: file.read(100_000), b"")) == LARGE


def test_a_large_object_that_is_replaced_under_its_reader_is_not_mixed(
    artifacts: S3Artifacts,
) -> None:
    artifacts.put("a", LARGE)
    with artifacts.open("a") as file:
        artifacts.put("a", LARGE[::-1])
        with pytest.raises(ReplacedError, match="'a' was replaced"):
            file.read()


def test_a_writer_killed_in_mid_upload_leaves_the_old_bytes_and_its_parts_are_dropped(
    artifacts: S3Artifacts, s3_url: str
) -> None:
    artifacts.put("files/a", b"old")
    kill_once_it_says(b"sent", KILLED_IN_PUT, s3_url)

    assert artifacts.get("files/a") == b"old"
    # The server tells the same old date of all that has begun.
    [(path, upload, _)] = artifacts._bucket.unfinished()
    young = [(path, upload, time.time())]
    with patch.object(artifacts._bucket, "unfinished", lambda: young):
        assert artifacts.drop_unfinished(before=time.time() - 60) == 0
    assert artifacts.drop_unfinished(before=time.time() + 60) == 1
    assert artifacts.drop_unfinished(before=time.time() + 60) == 0
    assert artifacts.get("files/a") == b"old"


def test_a_folder_whose_writer_dies_is_not_seen_and_its_files_are_dropped(
    artifacts: S3Artifacts, server: S3Server, tmp_path: Path
) -> None:
    first = new_folder(tmp_path / "first", "1")
    artifacts.put_folder("runs/1", first)
    with (
        patch.object(artifacts._folders, "show", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        artifacts.put_folder("runs/1", new_folder(tmp_path / "second", "2"))

    assert artifacts.get("runs/1/a") == b"1"
    assert len(server.names(f"{prefix_of(artifacts)}.files/")) == 4
    assert artifacts.drop_unfinished(before=time.time() + 60) == 1
    assert len(server.names(f"{prefix_of(artifacts)}.files/")) == 2
    assert artifacts.get("runs/1/b") == b"1"
    artifacts.delete("runs")
    assert not server.names(prefix_of(artifacts))


def new_folder(folder: Path, text: str) -> Path:
    folder.mkdir()
    for name in "ab":
        (folder / name).write_text(text)
    return folder


def test_several_writers_of_one_folder_all_end_well_and_one_of_them_wins_whole(
    artifacts: S3Artifacts, server: S3Server, tmp_path: Path
) -> None:
    def write(writer: int) -> None:
        for attempt in range(4):
            artifacts.put_folder(
                "models/m", new_folder(tmp_path / f"{writer}-{attempt}", f"{writer}")
            )

    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(write, number) for number in range(3)]:
            done.result()
    assert artifacts.list("models") == ["models/m/a", "models/m/b"]
    assert artifacts.get("models/m/a") == artifacts.get("models/m/b")
    assert len(server.names(f"{prefix_of(artifacts)}.files/")) == 2, "the others' are gone"


def test_a_file_of_a_folder_can_be_replaced_added_to_copied_and_deleted(
    artifacts: S3Artifacts, tmp_path: Path
) -> None:
    artifacts.put_folder("runs/1", new_folder(tmp_path / "new", "1"))
    artifacts.copy("runs/1/a", "output/a")
    artifacts.append("runs/1/a", b"2")
    artifacts.delete("runs/1/b")
    assert artifacts.list("runs") == ["runs/1/a"]
    assert (artifacts.get("runs/1/a"), artifacts.get("output/a")) == (b"12", b"1")
    assert artifacts.tail("runs/1/a", 1) == b"2"
    artifacts.delete("runs/1/a")
    assert artifacts.list("runs") == []


def test_writers_at_the_same_time_lose_nothing_of_each_other(s3_url: str) -> None:
    def write(writer: int) -> None:
        own = S3Artifacts(s3_url)
        for number in range(8):
            own.append("log", f"{writer} {number}\n".encode())

    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(write, number) for number in range(3)]:
            done.result()
    lines = S3Artifacts(s3_url).get("log").decode().splitlines()
    assert sorted(lines) == sorted(f"{w} {n}" for w in range(3) for n in range(8))
    for writer in range(3):
        assert [line for line in lines if line.startswith(f"{writer} ")] == [
            f"{writer} {number}" for number in range(8)
        ]


def test_what_grows_beyond_an_object_goes_on_in_others_and_reads_as_one(
    artifacts: S3Artifacts, server: S3Server
) -> None:
    pieces = [bytes([number]) * (FULL // 2 + 1) for number in range(7)]
    for piece in pieces:
        artifacts.append("log", piece)
    whole = b"".join(pieces)

    assert len(server.names(f"{prefix_of(artifacts)}.more/")) == 3
    assert artifacts.list("log") == []
    assert artifacts.get("log") == whole
    for offset in (0, FULL, FULL + 5, len(whole) - 3, len(whole), len(whole) + 9):
        assert artifacts.tail("log", offset) == whole[offset:]
    artifacts.copy("log", "copied")
    assert artifacts.get("copied") == whole
    artifacts.put("log", b"new")
    artifacts.append("log", b"er")
    assert artifacts.get("log") == b"newer"
    assert not server.names(f"{prefix_of(artifacts)}.more/")


def test_what_was_put_large_can_be_added_to(artifacts: S3Artifacts) -> None:
    artifacts.put("log", b"x" * (FULL + 1))
    artifacts.append("log", b"y")
    artifacts.append("log", b"z")
    assert artifacts.get("log") == b"x" * (FULL + 1) + b"yz"
    artifacts.delete("log")
    assert artifacts.tail("log", 0) == b""


def test_a_killed_holders_lock_is_taken_once_its_lease_has_run_out(
    artifacts: S3Artifacts, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_once_it_says(b"held", KILLED_IN_LOCK, s3_url)
    taken = threading.Event()

    def take() -> None:
        with artifacts.locked("a"):
            taken.set()

    waiting = threading.Thread(target=take)
    waiting.start()
    assert not taken.wait(0.5)
    monkeypatch.setattr(s3_lock, "LEASE", 0.0)
    assert taken.wait(30)
    waiting.join()


def test_a_lock_that_is_held_long_is_renewed(
    artifacts: S3Artifacts, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_lock, "_RENEWAL", 0.01)
    renewed = threading.Event()
    server.requests.clear()

    def watch(asked_for: str) -> None:
        if sum(request.startswith("PUT") for request in server.requests) > 2:
            renewed.set()

    server.spoil = watch
    with artifacts.locked("a"):
        assert renewed.wait(30)
    assert not server.names(f"{prefix_of(artifacts)}.locks/")


def test_a_folder_is_brought_to_the_node_once_for_all_of_its_processes(
    artifacts: S3Artifacts, server: S3Server, s3_url: str, tmp_path: Path
) -> None:
    artifacts.put_folder("runs/1", new_folder(tmp_path / "new", "1"))
    with ThreadPoolExecutor(4) as threads:
        places = set(threads.map(lambda _: S3Artifacts(s3_url).fetch_folder("runs/1"), range(4)))
    server.requests.clear()
    assert places == {artifacts.fetch_folder("runs/1")}
    assert not [request for request in server.requests if "/.files/" in request]
    artifacts.put_folder("runs/1", new_folder(tmp_path / "newer", "2"))
    assert (artifacts.fetch_folder("runs/1") / "a").read_text() == "2"
    assert (places.pop() / "a").read_text() == "1", "whoever reads the old one still can"


def test_lists_go_on_behind_their_first_page(artifacts: S3Artifacts) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: artifacts.put(f"files/{n:04}", b""), range(30)))
    paginate = artifacts._bucket.client.get_paginator("list_objects_v2")
    with patch.object(
        artifacts._bucket.client,
        "get_paginator",
        lambda _: Paged(paginate),
    ):
        assert artifacts.list("files") == [f"files/{n:04}" for n in range(30)]
        artifacts.delete("files")
        assert artifacts.list("files") == []


class Paged:
    """Pages of seven."""

    def __init__(self, paginator: object) -> None:
        self._paginator = paginator

    def paginate(self, **asked: object) -> object:
        return self._paginator.paginate(**asked, PaginationConfig={"PageSize": 7})  # type: ignore[attr-defined]
