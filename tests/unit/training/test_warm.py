"""A warm process gives each run a process of its own, which is like the one that hands it over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tunesmith.domain.failures import EXIT_NO_DATA

SERVER = """
import os, random, signal, sys, time
from tunesmith.training import __main__ as training, warm

warm.warm_up = lambda: None
kept = []

def main():
    what = sys.argv[1]
    if what == "tell":
        print(os.getcwd(), os.environ["OF_THE_RUN"], sys.argv[2:], flush=True)
        print("an error", file=sys.stderr, flush=True)
        return 7
    if what == "keep":
        kept.append(sys.argv[2])
        print(kept, random.random(), flush=True)
        return 0
    if what == "raise":
        raise RuntimeError("what went wrong")
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    print("waiting", os.getpid(), flush=True)
    signal.sigwait({signal.SIGTERM})
    return 143

training.main = main
sys.exit(warm.main())
"""
"""A warm process whose runs do as they are told, and which imports nothing large."""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A socket's path must be short.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("OF_THE_RUN", "mine")


@pytest.fixture
def server() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", SERVER])
    sockets = Path(os.environ["TMPDIR"]) / f"tunesmith-{os.getuid()}"
    wait_until(lambda: any(sockets.glob("*.sock")))
    yield process
    process.kill()
    process.wait()


def wait_until(true: object) -> None:
    assert callable(true)
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def begin(*arguments: str, folder: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tunesmith.training.start", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def waiting(run: subprocess.Popen[str]) -> psutil.Process:
    """Return the trainer of `run` once it waits."""
    assert run.stdout is not None
    return psutil.Process(int(run.stdout.readline().split()[1]))


@pytest.mark.usefixtures("server")
def test_output_folder_environment_arguments_and_exit_code_are_the_runs_own(tmp_path: Path) -> None:
    run = begin("tell", "--job", "ftjob-1", folder=tmp_path)
    out, err = run.communicate(timeout=30)
    assert out == f"{tmp_path} mine ['--job', 'ftjob-1']\n"
    assert err == "an error\n"
    assert run.returncode == 7


@pytest.mark.usefixtures("server")
def test_no_run_finds_anything_of_another() -> None:
    first, second = (begin("keep", name).communicate(timeout=30)[0] for name in ("a", "b"))
    assert first.startswith("['a'] ")
    assert second.startswith("['b'] ")
    assert first.split()[1] != second.split()[1]


@pytest.mark.usefixtures("server")
def test_a_fault_is_printed_where_the_run_prints() -> None:
    run = begin("raise")
    _, err = run.communicate(timeout=30)
    assert "RuntimeError: what went wrong" in err
    assert run.returncode == 1


@pytest.mark.usefixtures("server")
def test_a_run_that_a_signal_kills_ends_as_if_the_signal_had_come_to_it() -> None:
    run = begin("die")
    run.communicate(timeout=30)
    assert run.returncode == -signal.SIGKILL


@pytest.mark.usefixtures("server")
def test_a_stop_is_passed_on() -> None:
    run = begin("wait")
    trainer = waiting(run)
    run.terminate()
    assert run.wait(timeout=30) == 143
    trainer.wait(timeout=30)


@pytest.mark.usefixtures("server")
def test_a_run_is_stopped_where_the_process_that_handed_it_over_is_killed() -> None:
    run = begin("wait")
    trainer = waiting(run)
    run.kill()
    trainer.wait(timeout=30)


@pytest.mark.usefixtures("server")
def test_a_trainer_is_called_by_what_it_trains() -> None:
    run = begin("wait", "--job", "ftjob-9")
    title = " ".join(waiting(run).cmdline()).strip()
    run.terminate()
    run.wait(timeout=30)
    assert title == "tunesmith.training wait --job ftjob-9"


def test_runs_go_on_to_their_end_beside_each_other(server: subprocess.Popen[bytes]) -> None:
    runs = [begin("wait") for _ in range(2)]
    trainers = [waiting(run) for run in runs]
    assert begin("tell").wait(timeout=30) == 7
    assert all(trainer.is_running() for trainer in trainers)
    for run in runs:
        run.terminate()
    assert [run.wait(timeout=30) for run in runs] == [143, 143]
    assert server.poll() is None


def test_a_second_warm_process_leaves_the_first_alone(server: subprocess.Popen[bytes]) -> None:
    assert subprocess.run([sys.executable, "-c", SERVER], check=False, timeout=30).returncode == 0
    assert begin("tell").wait(timeout=30) == 7
    assert server.poll() is None


def test_one_that_was_killed_leaves_its_place_to_the_next(
    server: subprocess.Popen[bytes],
) -> None:
    server.kill()
    server.wait()
    second = subprocess.Popen([sys.executable, "-c", SERVER])
    try:
        wait_until(lambda: begin("tell").wait(timeout=30) == 7)
    finally:
        second.kill()
        second.wait()


def test_without_a_warm_process_a_run_trains_itself(tmp_path: Path) -> None:
    run = begin("--artifacts", str(tmp_path), "--job", "ftjob-1", "--attempt", "1")
    out, _ = run.communicate(timeout=60)
    assert run.returncode == EXIT_NO_DATA
    assert f"does not have the data folder {tmp_path}: let all nodes share it." in out


def test_a_folder_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    (tmp_path / f"tunesmith-{os.getuid()}").mkdir(mode=0o777)
    (tmp_path / f"tunesmith-{os.getuid()}").chmod(0o777)
    refused = subprocess.run(
        [sys.executable, "-c", SERVER], check=False, timeout=30, stderr=subprocess.PIPE, text=True
    )
    assert refused.returncode == 1
    assert "is not this user's alone" in refused.stderr
