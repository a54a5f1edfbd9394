from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tunesmith.artifacts.logs import LogFile
from tunesmith.cli import follow
from tunesmith.cli.service import Service
from tunesmith.domain.spec import Method
from unit.api.conftest import BASE, World
from unit.cli.conftest import Ask

ROW = b'{"messages": [{"role": "user", "content": "2+2"}, {"role": "assistant", "content": "4"}]}\n'


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROW * 12)
    return str(path)


@pytest.fixture
def job_id(ask: Ask, rows: str) -> str:
    return ask("jobs", "create", rows, "--model", BASE).stdout.strip()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "PAUSE", 0.0)


def test_a_path_is_uploaded_and_an_id_is_taken_as_it_is(ask: Ask, rows: str) -> None:
    made = ask("jobs", "create", rows, "--model", BASE, "--validation-file", rows)
    assert made.stdout.startswith("ftjob-")
    assert made.stderr.count("is uploaded as file-") == 2

    file_id = json.loads(ask("files", "list", "--json").stdout)["data"][0]["id"]
    again = json.loads(ask("jobs", "create", file_id, "--model", BASE, "--json").stdout)
    assert again["training_file"] == file_id


def test_the_options_become_the_fields_of_the_request(ask: Ask, rows: str, world: World) -> None:
    made = ask(
        "jobs", "create", rows, "--model", BASE, "--suffix", "mine", "--seed", "7",
        "--n-epochs", "2", "--batch-size", "4", "--rank", "8", "--max-steps", "9",
        "--metadata", "team=maths", "--metadata", "k=a=b", "--set", "tuning.max_seconds=600",
        "--set", "tuning.schedule=cosine",
    )  # fmt: skip
    job = world.store.job(made.stdout.strip())
    request = job.request
    assert (job.seed, request.suffix, request.n_epochs, request.batch_size) == (7, "mine", 2, 4)
    assert request.lora is not None
    assert (request.lora.rank, request.max_steps, request.max_seconds) == (8, 9, 600)
    assert request.schedule == "cosine"
    assert request.metadata == {"team": "maths", "k": "a=b"}


def test_hyperparameters_go_to_the_method_that_is_chosen(ask: Ask, rows: str, world: World) -> None:
    made = ask("jobs", "create", rows, "--model", BASE, "--method", "dpo", "--n-epochs", "3")
    request = world.store.job(made.stdout.strip()).request
    assert (request.method, request.n_epochs) == (Method.DPO, 3)


def test_options_change_the_request_of_a_file(
    ask: Ask, rows: str, world: World, tmp_path: Path
) -> None:
    file_id = ask("files", "upload", rows).stdout.strip()
    body = {"model": BASE, "training_file": file_id, "seed": 1, "tuning": {"max_steps": 5}}
    path = tmp_path / "request.json"
    path.write_text(json.dumps(body))

    made = ask("jobs", "create", "--from", str(path), "--seed", "2", "--max-length", "64")

    job = world.store.job(made.stdout.strip())
    assert (job.seed, job.request.max_steps, job.request.max_length) == (2, 5, 64)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["file-1"], "name the model"),
        (["--model", BASE], "name a file"),
        (["rows.gone", "--model", BASE], "there is no file 'rows.gone'"),
        (["file-1", "--model", BASE, "--set", "seed"], "has no '='"),
        (["file-1", "--model", BASE, "--set", "model.x=1"], "holds no fields"),
    ],
)
def test_what_cannot_be_read_is_a_fault_of_usage(ask: Ask, words: list[str], told: str) -> None:
    refused = ask("jobs", "create", *words)
    assert refused.exit_code == 2
    assert told in " ".join(refused.stderr.replace("│", " ").split())


def test_a_refused_request_names_the_field(ask: Ask, rows: str) -> None:
    refused = ask("jobs", "create", rows, "--model", BASE, "--set", "tuning.nonsense=1")
    assert refused.exit_code == 1
    assert "at 'tuning.nonsense'" in refused.stderr


def test_jobs_are_listed_and_shown(ask: Ask, job_id: str) -> None:
    assert [job_id, "validating_files"] == ask("jobs", "list").stdout.splitlines()[1].split()[:2]
    assert f"training_file{' '}" in ask("jobs", "get", job_id).stdout
    assert json.loads(ask("jobs", "get", job_id, "--json").stdout)["id"] == job_id


def test_events_and_checkpoints_are_shown(ask: Ask, job_id: str, world: World) -> None:
    world.run(job_id)
    lines = ask("jobs", "events", job_id, "--limit", "2").stdout.splitlines()
    assert all(line.endswith("  Step") for line in lines)
    assert len(lines) == 2
    table = ask("jobs", "checkpoints", job_id).stdout.splitlines()
    assert [line.split()[:3] for line in table[1:]] == [["10", "0.5000", "0.6250"],
                                                        ["5", "0.5000", "0.6250"]]  # fmt: skip


def test_a_job_is_paused_resumed_and_cancelled(ask: Ask, job_id: str, world: World) -> None:
    world.run(job_id)
    assert ask("jobs", "pause", job_id).stdout == f"{job_id} is paused.\n"
    assert ask("jobs", "resume", job_id).stdout == f"{job_id} is queued.\n"
    assert ask("jobs", "cancel", job_id).stdout == f"{job_id} is cancelled.\n"
    again = ask("jobs", "cancel", job_id)
    assert again.exit_code == 1
    assert job_id in again.stderr


def test_following_tells_each_event_once_and_then_the_end(
    ask: Ask, job_id: str, world: World
) -> None:
    world.run(job_id)
    world.finish(job_id)

    told = ask("jobs", "follow", job_id)

    assert told.exit_code == 0
    assert told.stdout.count("  Step\n") == 2
    assert told.stdout.splitlines()[-1] == (
        f"{job_id} has succeeded: ft:{BASE}:acme::{job_id[-8:]}"
    )


def test_following_with_json_prints_the_ended_job_alone(
    ask: Ask, job_id: str, world: World
) -> None:
    world.run(job_id)
    world.finish(job_id)
    assert json.loads(ask("jobs", "follow", job_id, "--json").stdout)["status"] == "succeeded"


def test_following_a_job_that_is_cancelled_has_an_exit_code_of_its_own(
    ask: Ask, job_id: str
) -> None:
    ask("jobs", "cancel", job_id)
    told = ask("jobs", "follow", job_id)
    assert told.exit_code == 4
    assert told.stdout.splitlines()[-1] == f"{job_id} is cancelled"


def test_events_are_followed_as_lines_of_json(ask: Ask, job_id: str, world: World) -> None:
    world.run(job_id)
    world.finish(job_id)
    lines = ask("jobs", "events", job_id, "--follow", "--json").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["type"] for event in events].count("metrics") == 2
    assert len({event["id"] for event in events}) == len(events)


def test_following_outlives_a_restart_of_the_service_and_repeats_nothing(
    ask: Ask, job_id: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run(job_id)
    get, looks = Service.get, iter(range(100))

    def away_for_a_while(service: Service, path: str, **query: object) -> dict[str, Any]:
        look = next(looks)
        if look in (1, 4, 5):
            raise openai.APIConnectionError(request=httpx2.Request("GET", path))
        if look == 6:
            world.finish(job_id)
        return get(service, path, **query)

    monkeypatch.setattr(Service, "get", away_for_a_while)
    told = ask("jobs", "follow", job_id)

    assert told.exit_code == 0, told.output
    assert told.stdout.count("  Step\n") == 2
    assert next(looks) > 7


def test_following_ends_where_the_service_stays_away(
    ask: Ask, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(service: Service, path: str, **query: object) -> dict[str, Any]:
        raise openai.APIConnectionError(request=httpx2.Request("GET", path))

    monkeypatch.setattr(Service, "get", away)
    monkeypatch.setattr(follow, "PATIENCE", 0.01)
    told = ask("jobs", "follow", job_id)
    assert told.exit_code == 3
    assert "has not answered for" in told.stderr


def test_ctrl_c_leaves_the_job_running_and_says_so(
    ask: Ask, job_id: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run(job_id)

    def pressed(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tunesmith.cli.follow.time.sleep", pressed)
    told = ask("jobs", "follow", job_id)

    assert told.exit_code == 130
    assert f"{job_id} goes on." in told.stderr
    assert world.store.job(job_id).status == "running"


def test_a_log_is_shown_and_followed_to_the_end_of_its_job(
    ask: Ask, job_id: str, world: World
) -> None:
    world.run(job_id)
    LogFile(world.artifacts, job_id).append(["one", "two", "three"])
    assert ask("jobs", "logs", job_id, "--tail", "2").stdout == "two\nthree\n"
    world.finish(job_id)
    lines = ask("jobs", "logs", job_id, "--follow", "--json").stdout.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["one", "two", "three"]
