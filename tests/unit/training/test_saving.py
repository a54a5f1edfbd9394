"""Checkpoints are saved aside the training: the next steps do not wait, and nothing is lost."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
import torch

from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.domain.errors import StaleJobError
from tunesmith.domain.failures import FailureCode
from tunesmith.training import checkpoints
from tunesmith.training.stopping import EXIT_STOPPED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tunesmith.artifacts.runs import RunDirectory
    from tunesmith.training.checkpoints import Snapshot
    from unit.training.conftest import Bench, Rows

SPEC = {"n_epochs": 3, "checkpoint_every": 3}
"""With 12 rows in batches of 4: 9 steps, and checkpoints at 3, 6 and 9."""

STOPPED_IN_MID_WRITE = """
import os, signal, sys, threading
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.training.__main__ import main

asked = threading.Event()
append, put_folder = LocalArtifacts.append, LocalArtifacts.put_folder

def tell_and_ask(self, key, data):
    # Not imported above: torch starts threads, and the signal is to be blocked before them.
    # What libraries say while they are imported is told before it is there.
    if "tunesmith.training.checkpoints" in sys.modules:
        sys.modules["tunesmith.training.checkpoints"]._SMALL = 1.0
    append(self, key, data)
    if b"Step 5/" in data:
        os.kill(os.getpid(), signal.SIGTERM)
        asked.set()

def wait_and_put(self, prefix, folder):
    assert not prefix.endswith("/step-3") or asked.wait(30)
    put_folder(self, prefix, folder)

LocalArtifacts.append, LocalArtifacts.put_folder = tell_and_ask, wait_and_put
sys.exit(main())
"""


@pytest.fixture(autouse=True)
def copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter is large beside a tiny model, but is to be copied like one beside a real one."""
    monkeypatch.setattr(checkpoints, "_SMALL", 1.0)


class _ToldArtifacts(LocalArtifacts):
    """Knows when step 5 was told."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.told = threading.Event()

    def append(self, key: str, data: bytes) -> None:
        super().append(key, data)
        if b"Step 5/" in data:
            self.told.set()


class _FullArtifacts(LocalArtifacts):
    """Has no room for a checkpoint."""

    def put_folder(self, prefix: str, folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_steps_are_taken_while_a_checkpoint_is_written_and_it_is_that_of_its_own_step(
    new_bench: Callable[[str], Bench], rows: Callable[[int], Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, waiting = new_bench("slow"), new_bench("waiting")
    artifacts, save = _ToldArtifacts(slow.root), checkpoints.save

    def save_slowly(run: RunDirectory, taken: Snapshot) -> None:
        assert taken.step != 3 or artifacts.told.wait(30), "training waits for the disk"
        save(run, taken)

    monkeypatch.setattr(checkpoints, "save", save_slowly)
    slow.write_spec(rows(12), **SPEC)
    assert slow.train(artifacts=artifacts).error is None
    monkeypatch.setattr(checkpoints, "save", save)
    monkeypatch.setattr(checkpoints, "_SMALL", 0.0)
    waiting.write_spec(rows(12), **SPEC)
    assert waiting.train().error is None

    told = slow.messages()
    step = next(n for n, text in enumerate(told) if text.startswith("Step 5/"))
    assert told.index("Checkpoint saved at step 3") > step
    for at in (3, 6, 9):
        assert _adapter(slow, at) == _adapter(waiting, at)
        torch.testing.assert_close(_moments(slow, at), _moments(waiting, at), rtol=0, atol=0)


def test_a_stop_in_mid_write_loses_neither_that_checkpoint_nor_the_last_step(
    new_bench: Callable[[str], Bench], rows: Callable[[int], Rows]
) -> None:
    stopped, whole = new_bench("stopped"), new_bench("whole")
    whole.write_spec(rows(12), **SPEC)
    whole.train()
    stopped.write_spec(rows(12), **SPEC)
    command = (sys.executable, "-c", STOPPED_IN_MID_WRITE, "--artifacts", str(stopped.root))

    code = subprocess.run(
        [*command, "--job", "ftjob-1", "--attempt", "1"], stdout=subprocess.DEVNULL, check=False
    ).returncode

    assert code == EXIT_STOPPED
    assert stopped.run.checkpoint_steps() == [3, 5]
    assert _checkpoints_told(stopped) == [3, 5]
    stopped.run.claim(2)
    assert stopped.train(attempt=2).error is None
    assert _checkpoints_told(stopped) == [3, 5, 6, 9]
    assert stopped.adapter() == whole.adapter()


def test_a_checkpoint_that_finds_no_room_ends_the_run(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(12), **SPEC)

    error = bench.train(artifacts=_FullArtifacts(bench.root)).error

    assert error is not None
    assert error.code is FailureCode.DISK_FULL
    assert _checkpoints_told(bench) == []


def test_an_attempt_that_was_replaced_saves_no_checkpoint(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(12), **SPEC)

    class Replacing(LocalArtifacts):
        def append(self, key: str, data: bytes) -> None:
            super().append(key, data)
            if b"Step 3/" in data:
                bench.run.claim(2)

    with pytest.raises(StaleJobError):
        bench.train(artifacts=Replacing(bench.root))

    assert bench.run.checkpoint_steps() == []


def _checkpoints_told(bench: Bench) -> list[int]:
    return [event.checkpoint.step for event in bench.run.events(after=0) if event.checkpoint]


def _adapter(bench: Bench, step: int) -> bytes:
    return bench.artifacts.get(f"{bench.run.checkpoint(step)}/{checkpoints.ADAPTER}")


def _moments(bench: Bench, step: int) -> dict[int, dict[str, torch.Tensor]]:
    """What the optimizer remembers of each weight in the checkpoint at `step`."""
    folder = bench.artifacts.fetch_folder(bench.run.checkpoint(step))
    state = torch.load(folder / checkpoints.STATE, weights_only=True)
    moments: dict[int, dict[str, torch.Tensor]] = state["optimizer"]["state"]
    assert moments
    return moments
