"""A run's log: whole lines of several writers, and looks that never read all of a large one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pytest

from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.artifacts.logs import LONGEST_LINE, LogFile
from tunesmith.artifacts.memory import MemoryArtifacts
from tunesmith.artifacts.protocol import Artifacts
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.events import LogLine
from tunesmith.domain.values import Page

KEY = "runs/ftjob-1/log"


@pytest.fixture
def log(artifacts: Artifacts) -> LogFile:
    return LogFile(artifacts, "ftjob-1")


def texts(page: Page[LogLine]) -> list[str]:
    return [line.text for line in page.items]


def test_before_its_first_line_a_log_is_empty(log: LogFile) -> None:
    assert log.last(5) == log.behind(0, limit=5) == Page[LogLine](items=(), has_more=False)


def test_the_last_lines_come_oldest_first(log: LogFile) -> None:
    log.append(["one", "two"])
    log.append(["drei, größer als 2", ""])

    assert texts(log.last(3)) == ["two", "drei, größer als 2", ""]
    assert texts(log.last(100)) == ["one", "two", "drei, größer als 2", ""]


def test_from_the_end_of_any_line_one_reads_on(log: LogFile) -> None:
    log.append(["é1", "2", "3", "4"])
    [known, *_] = log.last(4).items

    page = log.behind(known.end, limit=2)
    assert (texts(page), page.has_more) == (["2", "3"], True)
    page = log.behind(page.items[-1].end, limit=2)
    assert (texts(page), page.has_more) == (["4"], False)
    log.append(["5"])
    assert texts(log.behind(page.items[-1].end, limit=2)) == ["5"]


def test_a_place_behind_the_end_is_refused(log: LogFile) -> None:
    log.append(["one"])
    assert log.behind(4, limit=1).items == ()
    with pytest.raises(InvalidRequestError, match=r"no line '5': it ends at '4'"):
        log.behind(5, limit=1)


def test_a_line_that_is_being_written_is_shown_once_it_is_whole(
    artifacts: Artifacts, log: LogFile
) -> None:
    artifacts.append(KEY, b"one\ntw")
    assert texts(log.last(5)) == texts(log.behind(0, limit=5)) == ["one"]
    artifacts.append(KEY, b"o\n")
    assert texts(log.behind(4, limit=5)) == ["two"]


def test_what_follows_a_line_that_was_cut_off_stands_on_a_line_of_its_own(
    artifacts: Artifacts, log: LogFile
) -> None:
    artifacts.append(KEY, b"cut o")
    log.append(["next"])
    assert texts(log.last(5)) == ["cut o", "next"]


def test_writers_at_the_same_time_break_no_line_of_each_other(tmp_path: Path) -> None:
    def write(rank: int) -> None:
        log = LogFile(LocalArtifacts(tmp_path), "ftjob-1")
        for number in range(30):
            log.append([f"{rank} {number}", f"{rank} {number} more"])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))

    found = texts(LogFile(LocalArtifacts(tmp_path), "ftjob-1").last(1000))
    for rank in range(4):
        expected = [f"{rank} {n}{more}" for n in range(30) for more in ("", " more")]
        assert [text for text in found if text.startswith(f"{rank} ")] == expected
    assert len(found) == 240


def test_a_very_long_line_is_cut(log: LogFile) -> None:
    log.append(["x" * 1_000_000, "next"])
    assert texts(log.last(2)) == ["x" * LONGEST_LINE + "…", "next"]


def test_of_a_large_log_only_what_is_shown_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts = MemoryArtifacts()
    lines = [f"line {number}" for number in range(1_000_000)]
    artifacts.put(KEY, "".join(f"{line}\n" for line in lines).encode())
    read: list[int] = []
    opened = artifacts.open

    class Counted(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            found = super().read(size)
            read.append(len(found))
            return found

    def count(key: str) -> BinaryIO:
        return Counted(opened(key).read())

    monkeypatch.setattr(artifacts, "open", count)
    log = LogFile(artifacts, "ftjob-1")

    assert texts(log.last(1000)) == lines[-1000:]
    page = log.behind(0, limit=1000)

    assert (texts(page), page.has_more) == (lines[:1000], True)
    assert sum(read) < 1_200_000


def test_what_one_look_reads_is_bounded_though_more_lines_were_asked_for(log: LogFile) -> None:
    log.append("y" * 7_000 for _ in range(400))

    last, first = log.last(400), log.behind(0, limit=400)

    assert 100 < len(last.items) < 160
    assert {len(text) for text in (*texts(last), *texts(first))} == {7_000}
    assert (last.has_more, first.has_more) == (False, True)


def test_a_line_without_any_end_is_passed_bit_by_bit(artifacts: Artifacts, log: LogFile) -> None:
    artifacts.put(KEY, b"z" * 3_000_000 + b"\nend\n")
    found, place = "", 0
    while True:
        page = log.behind(place, limit=5)
        found += "".join(texts(page))
        place = page.items[-1].end
        if not page.has_more:
            break
    assert found == "z" * 3_000_000 + "end"
