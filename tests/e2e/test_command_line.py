"""The commands that ask a service, as a user and a script run them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.rows import sums
from e2e.service import COMMAND, Service, until

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def environment(service: Service) -> dict[str, str]:
    named = {"OPENAI_BASE_URL": service.url, "TUNESMITH_DATA": str(service.data)}
    return os.environ | named


@pytest.fixture(scope="module")
def run(environment: dict[str, str]) -> Run:
    """Return a function that runs a command to its end."""

    def command(*words: str, text: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *words],
            capture_output=True,
            text=True,
            input=text,
            timeout=240,
            check=False,
            env=environment | more,
        )

    return command


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("rows") / "sums.jsonl"
    path.write_bytes(sums(24))
    return str(path)


@pytest.fixture(scope="module")
def followed(run: Run, rows: str) -> subprocess.CompletedProcess[str]:
    """A job that was created and followed, with no terminal."""
    return run(
        "jobs", "create", rows, "--model", "tiny", "--n-epochs", "2", "--batch-size", "4",
        "--seed", "5", "--set", "tuning.cpus=1", "--follow",
    )  # fmt: skip


def newest(run: Run) -> str:
    found = json.loads(run("jobs", "list", "--limit", "1", "--json").stdout)
    return str(found["data"][0]["id"])


def test_a_job_is_created_from_a_path_and_followed_to_its_model(
    followed: subprocess.CompletedProcess[str],
) -> None:
    assert followed.returncode == 0, followed.stderr
    assert "sums.jsonl is uploaded as file-" in followed.stderr
    assert "Step 12/12" in followed.stdout
    assert " has succeeded: ft:tiny:tunesmith::" in followed.stdout.splitlines()[-1]


def test_on_a_terminal_bar_and_curve_are_drawn(
    run: Run, followed: subprocess.CompletedProcess[str]
) -> None:
    drawn = run("jobs", "follow", newest(run), FORCE_COLOR="1", COLUMNS="80")
    assert drawn.returncode == 0, drawn.stderr
    for part in ("━", "step 12/12", "█", "The job has successfully completed"):
        assert part in drawn.stdout


def test_checkpoints_events_and_log_are_shown(
    run: Run, followed: subprocess.CompletedProcess[str]
) -> None:
    job_id = newest(run)
    assert "ckpt-step-6" in run("jobs", "checkpoints", job_id).stdout
    assert "successfully completed" in run("jobs", "events", job_id).stdout
    log = run("jobs", "logs", job_id, "--follow", "--json")
    assert log.returncode == 0
    assert all(json.loads(line)["text"] for line in log.stdout.splitlines())
    assert "attempt 1 rank 0" in log.stdout


def test_ctrl_c_leaves_the_job_running(run: Run, rows: str, environment: dict[str, str]) -> None:
    words = [
        "jobs", "create", rows, "--model", "tiny", "--n-epochs", "50", "--batch-size", "1",
        "--set", "tuning.cpus=1", "--follow",
    ]  # fmt: skip
    with subprocess.Popen(
        [COMMAND, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        until(lambda: "Created" in (process.stdout.readline() if process.stdout else ""), 60)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    job_id = newest(run)
    assert f"{job_id} goes on." in told

    ended = json.loads(run("jobs", "get", job_id, "--json").stdout)
    assert ended["status"] in ("validating_files", "queued", "running")
    assert run("jobs", "cancel", job_id).stdout == f"{job_id} is cancelled.\n"
    assert run("jobs", "follow", job_id).returncode == 4


def test_an_estimate_is_measured(run: Run, rows: str) -> None:
    told = run("estimate", rows, "--model", "tiny", "--set", "tuning.cpus=1")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("It fits: ")


def test_the_tuned_model_is_asked(run: Run, followed: subprocess.CompletedProcess[str]) -> None:
    model = followed.stdout.split()[-1]
    words = ("models", "chat", model, "--max-tokens", "4", "--temperature", "0")
    streamed = run(*words, text="1 plus 2?\n")
    whole = run(*words, "--message", "1 plus 2?", "--json")
    assert streamed.returncode == whole.returncode == 0, streamed.stderr + whole.stderr
    answer = json.loads(whole.stdout)["choices"][0]["message"]["content"]
    assert streamed.stdout == f"{answer}\n"


def test_the_doctor_finds_a_service_that_is_ready(run: Run, service: Service) -> None:
    told = run("doctor")
    assert told.returncode == 0, told.stdout
    assert f"{service.url}/v1 is ready for jobs" in told.stdout


def test_results_are_downloaded(
    run: Run, followed: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    model = followed.stdout.split()[-1]
    listed = json.loads(run("jobs", "list", "--json").stdout)["data"]
    [file_id] = next(job for job in listed if job["fine_tuned_model"] == model)["result_files"]
    told = run("files", "download", file_id, "--output", str(tmp_path))
    assert told.returncode == 0, told.stderr
    [path] = tmp_path.iterdir()
    assert len(path.read_text().splitlines()) == 13


def test_the_adapter_is_exported_and_downloaded(
    run: Run, followed: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    model = followed.stdout.split()[-1]

    told = run("models", "export", model, "--output", str(tmp_path / "taken"))

    assert told.returncode == 0, told.stderr
    names = {path.name for path in (tmp_path / "taken").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names


def test_a_verdict_is_shown(run: Run, rows: str) -> None:
    made = run(
        "jobs", "create", rows, "--model", "tiny", "--n-epochs", "1", "--follow",
        "--set", "tuning.held_out_percent=25",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr

    told, plain = run("jobs", "verdict", newest(run), "--json"), run("jobs", "verdict", newest(run))

    assert told.returncode == plain.returncode == 0, told.stderr
    outcome = json.loads(told.stdout)["outcome"]
    assert outcome in ("better", "same", "worse")
    assert outcome in plain.stdout
    assert "perplexity" in plain.stdout
