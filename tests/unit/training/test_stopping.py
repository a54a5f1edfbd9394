"""The process of a run: how it ends when it is asked to, replaced, or left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tunesmith.training import stopping
from tunesmith.training.stopping import EXIT_STOPPED, StopFlag

if TYPE_CHECKING:
    from collections.abc import Callable

    from unit.training.conftest import Bench, Rows

LONG = {"n_epochs": 50, "batch_size": 1, "checkpoint_every": 100_000}


def command(bench: Bench, attempt: int = 1) -> list[str]:
    return [
        *(sys.executable, "-m", "tunesmith.training"),
        *("--artifacts", str(bench.root)),
        *("--job", "ftjob-1", "--attempt", str(attempt)),
    ]


def wait_for(seen: Callable[[], bool], *, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def test_a_stop_is_waited_for_before_any_library_has_threads_that_it_would_kill() -> None:
    code = "import tunesmith.training.__main__, os; print(len(os.listdir('/proc/self/task')))"
    threads = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    found = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | threads, capture_output=True, check=True
    )

    assert int(found.stdout) == 1


def test_a_stop_in_mid_run_saves_the_last_whole_step_within_seconds(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(40), **LONG)
    process = subprocess.Popen(command(bench), stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: len(bench.metrics()) >= 3)
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=20)
    finally:
        process.kill()

    last = bench.metrics()[-1].step
    assert code == EXIT_STOPPED
    assert time.monotonic() - asked < 3.5
    assert bench.run.checkpoint_steps()[-1] in (last, last + 1)
    assert all(event.outcome is None for event in bench.run.events(after=0))
    log = bench.artifacts.get(f"{bench.run.prefix}/log").decode()
    assert " INFO Training started" in log
    assert " INFO Asked to stop" in log


def test_a_run_without_its_parent_ends_by_itself(bench: Bench, rows: Callable[[int], Rows]) -> None:
    bench.write_spec(rows(40), **LONG)
    starter = (
        "import subprocess, sys; "
        "print(subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL).pid, flush=True); "
        "sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", starter, *command(bench)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        wait_for(lambda: len(bench.metrics()) >= 1)
        parent.kill()
        parent.communicate()
        wait_for(lambda: not runs(child), seconds=10)
    finally:
        if runs(child):
            os.kill(child, signal.SIGKILL)

    assert bench.run.checkpoint_steps()


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
        return state.rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_replaced_attempt_ends_with_a_code_of_its_own_and_writes_nothing(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(8))
    bench.run.claim(2)

    code = subprocess.run(command(bench), stdout=subprocess.DEVNULL, check=False).returncode

    assert code == 3
    assert sorted(path.name for path in (bench.root / bench.run.prefix).iterdir()) == [
        "attempt",
        "spec.json",
    ]


def test_a_recorded_failure_ends_with_1(bench: Bench) -> None:
    bench.write_spec([{"instruction": "Say 1", "output": 1}])

    code = subprocess.run(command(bench), stdout=subprocess.DEVNULL, check=False).returncode

    assert code == 1
    assert bench.run.events(after=0)[-1].outcome is not None


def test_a_stop_waits_for_a_write_in_progress_and_lets_no_other_begin() -> None:
    steps: list[str] = []
    stop = StopFlag(leave=lambda code: steps.append(f"left {code}"))
    stop.save_with(lambda: steps.append("saved"))
    with stop.whole():
        stopper = threading.Thread(target=stop.stop)
        stopper.start()
        stopper.join(timeout=0.2)
        steps.append("written")
    stopper.join()

    assert steps == ["written", "saved", "left 143"]


def test_a_stop_leaves_even_if_a_write_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_PATIENCE", 0.05)
    codes: list[int] = []
    stop = StopFlag(leave=codes.append)
    stop.save_with(lambda: codes.append(0))
    with stop.whole():
        stopper = threading.Thread(target=stop.stop)
        stopper.start()
        stopper.join()

    assert codes == [EXIT_STOPPED]


def test_a_stop_leaves_even_if_saving_fails() -> None:
    codes: list[int] = []
    stop = StopFlag(leave=codes.append)

    def fail() -> None:
        raise OSError("no room")

    stop.save_with(fail)
    stop.stop()

    assert codes == [EXIT_STOPPED]
