"""A run whose disk is full says so, even where it can write no more."""

from __future__ import annotations

import errno
import io
import logging
import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.domain.failures import EXIT_DISK_FULL, FailureCode
from tunesmith.training.failures import explain
from tunesmith.training.run_log import RunLog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from unit.training.conftest import Bench, Rows

FULL_DISK = """
import os, sys
from tunesmith.training.__main__ import main

def refuse(descriptor):
    raise OSError(28, "No space left on device")

os.fsync = refuse
sys.exit(main())
"""


class _FillingArtifacts(LocalArtifacts):
    """Has no room from the moment at which `word` is appended, until there is `room` again."""

    def __init__(self, root: Path, word: bytes) -> None:
        super().__init__(root)
        self._word = word
        self.room = True

    def append(self, key: str, data: bytes) -> None:
        self.room = self.room and self._word not in data
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().append(key, data)


@pytest.mark.parametrize("moment", [b"Training started", b"Step 2/", b"Training finished"])
def test_an_outcome_that_finds_no_room_is_returned_alone(
    bench: Bench, rows: Callable[[int], Rows], moment: bytes
) -> None:
    bench.write_spec(rows(8), n_epochs=1)

    error = bench.train(artifacts=_FillingArtifacts(bench.root, moment)).error

    assert error is not None
    assert error.code is FailureCode.DISK_FULL
    assert all(event.outcome is None for event in bench.run.events(after=0))


def test_a_run_on_a_full_disk_ends_with_a_code_of_its_own_and_names_it_in_its_output(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(8))
    bench.artifacts.append(f"{bench.run.prefix}/events", b'{"number": 1, "torn')
    command = (sys.executable, "-c", FULL_DISK, "--artifacts", str(bench.root))

    ended = subprocess.run(
        [*command, "--job", "ftjob-1", "--attempt", "1"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == EXIT_DISK_FULL
    assert "ERROR The disk of the data folder is full." in ended.stdout


def test_a_full_disk_is_known_behind_an_error_of_torch() -> None:
    class Full(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            if len(data) > 1000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return len(data)

    with pytest.raises(RuntimeError, match="unexpected pos") as raised:
        torch.save({"a": torch.zeros(10_000)}, Full())  # type: ignore[arg-type]

    assert explain(raised.value).code is FailureCode.DISK_FULL


@pytest.mark.parametrize(
    "error",
    [
        shutil.Error([("/tmp/a", "b", "[Errno 28] No space left on device: '/tmp/a'")]),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        OSError(errno.EDQUOT, "Disk quota exceeded", "/tmp/a"),
    ],
    ids=["shutil", "rust", "quota"],
)
def test_a_full_disk_is_known_by_whatever_library_met_it_and_told_without_paths(
    error: Exception,
) -> None:
    told = explain(error)

    assert told.code is FailureCode.DISK_FULL
    assert told.message == (
        "The disk of the data folder is full. Free some space and create the job anew."
    )


def test_a_log_that_finds_no_room_waits_and_stops_nobody(bench: Bench) -> None:
    bench.run.claim(1)
    artifacts = _FillingArtifacts(bench.root, b"second")
    log = RunLog(bench.run, artifacts, attempt=1, interval=0.0)
    for text in ("first", "second", "third"):
        log.handle(logging.LogRecord("run", logging.INFO, "", 0, text, (), None))
    assert not artifacts.room

    artifacts.room, artifacts._word = True, b"never"
    log.flush()

    lines = artifacts.get(f"{bench.run.prefix}/log").decode().splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["first", "second", "third"]


def test_checkpoints_need_no_room_but_on_the_disk_that_keeps_them(
    bench: Bench, rows: Callable[[int], Rows], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write_spec(rows(8), n_epochs=1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))

    assert bench.train().error is None

    assert bench.run.checkpoint_steps() == [2]
    assert list((bench.root / ".aside").iterdir()) == []
