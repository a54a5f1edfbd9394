"""What a training process logs: each line names who wrote it, soon, and without secrets."""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tunesmith.artifacts.logs import LogFile
from tunesmith.artifacts.memory import MemoryArtifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.training.run_log import RunLog

JOB = "ftjob-1"


class Bench:
    """A run directory, and processes that log to it."""

    def __init__(self) -> None:
        self.artifacts = MemoryArtifacts()
        self.run = RunDirectory(self.artifacts, JOB)
        self.run.claim(1)

    @contextmanager
    def logging(self, *, rank: int = 0, interval: float = 0.0) -> Iterator[logging.Logger]:
        logger = logging.Logger(f"rank {rank}")
        log = RunLog(self.run, self.artifacts, attempt=1, rank=rank, interval=interval)
        logger.addHandler(log)
        yield logger
        log.flush()

    def lines(self) -> list[str]:
        return [line.text for line in LogFile(self.artifacts, JOB).last(100).items]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_each_line_names_time_attempt_rank_node_and_level(bench: Bench) -> None:
    with bench.logging(rank=3) as logger:
        logger.info("step %d", 7)
        logger.error("it failed", exc_info=ValueError("bad\nvalue"))

    node = re.escape(socket.gethostname())
    head = rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z attempt 1 rank 3 node {node}"
    first, *others = bench.lines()
    assert re.fullmatch(f"{head} INFO step 7", first)
    assert all(re.match(f"{head} ERROR ", line) for line in others)
    assert others[0].endswith(" ERROR it failed")
    assert [line.rpartition(" ERROR ")[2] for line in others[-2:]] == ["ValueError: bad", "value"]


def test_the_lines_of_all_ranks_are_kept(bench: Bench) -> None:
    with bench.logging(rank=0) as first, bench.logging(rank=1) as second:
        first.info("a")
        second.info("b")
        first.info("c")

    shown = [
        re.sub(r"\S+ attempt 1 (rank \d) node \S+ INFO", r"\1", line) for line in bench.lines()
    ]
    assert shown == ["rank 0 a", "rank 1 b", "rank 0 c"]


def test_the_last_line_before_a_silence_is_soon_there_too(bench: Bench) -> None:
    with bench.logging(interval=0.2) as logger:
        logger.info("first")
        logger.info("second")
        assert len(bench.lines()) == 1

        until(lambda: len(bench.lines()) == 2)

        logger.info("third")
        until(lambda: len(bench.lines()) == 3)


def test_no_line_shows_a_secret(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_aaaaaaaaaaaaaaaaaaaa")
    with bench.logging() as logger:
        logger.warning("401 for hf_aaaaaaaaaaaaaaaaaaaa")
        logger.error("sk-ts-%s", "A" * 40, exc_info=RuntimeError("whsec_abcdefghijklmnop"))

    text = "\n".join(bench.lines())
    assert "401 for ***" in text
    assert "hf_a" not in text
    assert "whsec_***" in text
    assert "A" * 20 not in text


def test_an_attempt_that_was_replaced_writes_no_more(bench: Bench) -> None:
    with bench.logging() as logger:
        logger.info("before")
        bench.run.claim(2)
        logger.info("after")

    [line] = bench.lines()
    assert line.endswith(" before")
