"""What a job can be asked for beyond a plain one, and what is told of it, on a live service."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob
from pyarrow import parquet

from e2e.rows import preferences, sums
from e2e.service import COMMAND, Service

GOOD = 40
CONTENT = sums(GOOD) + b'{"messages": []}\n'
ASIDE = GOOD + 1
LAST_STEP = 13
KEY = {"Idempotency-Key": "surface-1"}
TUNING: dict[str, Any] = {
    "adapter": {"rank": 4, "targets": ["q_proj", "v_proj"]},
    "learning_rate": 0.01,
    "bad_rows": "set_aside",
    "held_out_percent": 20,
    "evaluate_every": 1,
    # No loss falls so far: the first evaluation is the best, and twelve more are borne.
    "early_stopping": {"patience": 12, "min_delta": 1000},
    "cpus": 1,
}


@dataclass(frozen=True)
class Done:
    """Jobs that have ended."""

    first: FineTuningJob
    """Of our own options, with a bad row."""
    on_model: FineTuningJob
    """From the result of the first."""
    on_checkpoint: FineTuningJob
    """From a checkpoint of the first."""
    preferred: FineTuningJob
    """By DPO."""


def wanted(file_id: str) -> dict[str, Any]:
    """Return the request of the first job."""
    return {
        "model": "tiny",
        "training_file": file_id,
        "seed": 3,
        "hyperparameters": {"n_epochs": 5, "batch_size": 4},
        "extra_body": {"tuning": TUNING},
        "extra_headers": KEY,
    }


def tune_on(client: OpenAI, model: str, *, file_id: str) -> FineTuningJob:
    tuning = {"bad_rows": "set_aside", "held_out_percent": 20, "cpus": 1}
    return client.fine_tuning.jobs.create(
        model=model,
        training_file=file_id,
        seed=3,
        hyperparameters={"n_epochs": 1, "batch_size": 4},
        extra_body={"tuning": tuning},
    )


def prefer(client: OpenAI) -> FineTuningJob:
    file = client.files.create(file=("pairs.jsonl", preferences(20)), purpose="fine-tune")
    return client.fine_tuning.jobs.create(
        model="tiny",
        training_file=file.id,
        method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": 2}}},
        extra_body={"tuning": {"held_out_percent": 20, "cpus": 1}},
    )


@pytest.fixture(scope="module")
def done(service: Service) -> Done:
    client = service.client
    file = client.files.create(file=("sums.jsonl", CONTENT), purpose="fine-tune")
    first = client.fine_tuning.jobs.create(**wanted(file.id))
    preferred = prefer(client)
    first = service.wait(first.id)
    assert first.status == "succeeded", first.error
    checkpoint = client.fine_tuning.jobs.checkpoints.list(first.id).data[0]
    on_model = tune_on(client, str(first.fine_tuned_model), file_id=file.id)
    # For some seconds behind a job's end its process may still write to its checkpoints.
    patient = client.with_options(max_retries=10)
    on_checkpoint = tune_on(patient, checkpoint.fine_tuned_model_checkpoint, file_id=file.id)
    rest = [service.wait(job.id) for job in (on_model, on_checkpoint, preferred)]
    assert [job.status for job in rest] == ["succeeded"] * 3, [job.error for job in rest]
    return Done(first, *rest)


def metrics(service: Service, job: FineTuningJob) -> list[dict[str, Any]]:
    """Return the data of the job's metrics events, in the order of the steps."""
    events = service.client.fine_tuning.jobs.list_events(job.id, limit=100)
    told = [event.data for event in events if event.type == "metrics"]
    return [dict(data) for data in reversed(told)]  # type: ignore[call-overload]


def path(service: Service, job: FineTuningJob) -> str:
    return f"{service.url}/v1/fine_tuning/jobs/{job.id}"


def adapter(service: Service, job: FineTuningJob) -> dict[str, Any]:
    file = service.data / "output" / job.id / "adapter_config.json"
    config: dict[str, Any] = json.loads(file.read_text())
    return config


def test_our_own_options_are_shown_and_honoured(service: Service, done: Done) -> None:
    shown = done.first.to_dict()["tuning"]
    assert isinstance(shown, dict)
    assert shown["adapter"] == {
        "kind": "lora",
        "rank": 4,
        "alpha": 8.0,
        "dropout": 0.0,
        "targets": ["q_proj", "v_proj"],
        "also_train": [],
    }
    assert {key: shown[key] for key in TUNING if key != "adapter"} == {
        key: value for key, value in TUNING.items() if key != "adapter"
    }
    assert None not in (shown["max_length"], shown["warmup_ratio"], shown["checkpoint_every"])

    config = adapter(service, done.first)
    assert (config["r"], config["lora_alpha"]) == (4, 8)
    assert set(config["target_modules"]) == {"q_proj", "v_proj"}
    told = metrics(service, done.first)
    assert [each["step"] for each in told] == list(range(1, LAST_STEP + 1))
    assert all(each["valid_loss"] > 0 for each in told)
    said = [event.message for event in service.client.fine_tuning.jobs.list_events(done.first.id)]
    assert any(message.startswith(f"Stopped early at step {LAST_STEP} of 40") for message in said)


def test_a_job_goes_on_from_a_tuned_model_or_a_checkpoint(service: Service, done: Done) -> None:
    fresh = metrics(service, done.first)[0]["train_loss"]
    for job in (done.on_model, done.on_checkpoint):
        assert job.model.startswith(str(done.first.fine_tuned_model))
        assert str(job.fine_tuned_model).startswith("ft:tiny:")
        assert adapter(service, job)["r"] == 4
        assert metrics(service, job)[0]["train_loss"] < fresh - 0.1


def test_preferences_are_learnt_and_their_rewards_told(service: Service, done: Done) -> None:
    job = done.preferred
    assert job.method is not None
    assert job.method.type == "dpo"
    assert job.method.dpo is not None
    resolved = job.method.dpo.hyperparameters
    assert resolved is not None
    assert (resolved.beta, resolved.n_epochs) == (0.2, 2)
    assert isinstance(resolved.batch_size, int)
    assert isinstance(resolved.learning_rate_multiplier, float)

    told = metrics(service, job)
    assert math.isclose(told[0]["train_loss"], math.log(2), rel_tol=1e-3)
    for each in told:
        margin = each["rewards_chosen"] - each["rewards_rejected"]
        assert math.isclose(each["rewards_margin"], margin, abs_tol=1e-4)
    assert told[-1]["valid_loss"] > 0
    table = csv.DictReader(io.StringIO(service.client.files.content(job.result_files[0]).text))
    assert [float(row["rewards_margin"]) for row in table] == [
        each["rewards_margin"] for each in told
    ]


def test_a_bad_row_is_set_aside_and_the_receipt_says_why(service: Service, done: Done) -> None:
    receipt = f"{path(service, done.first)}/receipt"

    sums_ = httpx.get(receipt).json()
    lines = [
        json.loads(line)
        for line in httpx.get(receipt, params={"format": "jsonl"}).text.splitlines()
    ]
    table = parquet.read_table(
        io.BytesIO(httpx.get(receipt, headers={"Accept": "application/vnd.apache.parquet"}).content)
    )

    assert (sums_["steps"], sums_["held_out_examples"]) == (LAST_STEP, 8)
    assert sums_["trained_tokens"] == done.first.trained_tokens
    assert [row["line"] for row in lines] == list(range(1, ASIDE + 1))
    *used, aside = lines
    assert {row["rule"] for row in used} == {None}
    assert aside["rule"]
    assert aside["text"] == 0
    assert f"ine {ASIDE}" in aside["reason"] or "messages" in aside["reason"]
    rows = table.to_pylist()
    assert [row["tokens"] for row in rows] == [row["tokens"] for row in lines]
    assert [sum(row["learnt"]) for row in rows[:-1]] == [row["tokens_learnt"] for row in used]


def test_one_line_is_shown_as_the_model_sees_it(service: Service, done: Done) -> None:
    user, assistant = json.loads(CONTENT.splitlines()[6])["messages"]

    [text] = httpx.get(f"{path(service, done.first)}/receipt/lines/7").json()["texts"]
    aside = httpx.get(f"{path(service, done.first)}/receipt/lines/{ASIDE}").json()

    tokens = text["tokens"]
    learnt = "".join(token["text"] for token in tokens if token["learnt"])
    unlearnt = "".join(token["text"] for token in tokens if not token["learnt"])
    assert learnt == assistant["content"] + "<|im_end|>"
    assert user["content"] in unlearnt
    assert (text["cut"], text["end_learnt"]) == (False, True)
    assert aside["texts"] == []
    assert aside["set_aside"]["rule"]


def test_a_file_is_checked_alike_by_the_route_and_by_the_command(
    service: Service, tmp_path: Path, done: Done
) -> None:
    asked = {"model": "tiny", "n_epochs": 2, "batch_size": 4}
    options = ("--model", "tiny", "--n-epochs", "2", "--batch-size", "4")
    file = tmp_path / "sums.jsonl"
    file.write_bytes(CONTENT + CONTENT.splitlines(keepends=True)[0])
    uploaded = service.client.files.create(file=file, purpose="fine-tune")

    answer = httpx.post(
        f"{service.url}/v1/files/{uploaded.id}/validate", json=asked, timeout=60
    ).json()
    ran = subprocess.run(
        [COMMAND, "validate", str(file), "--json", *options],
        env=os.environ | {"TUNESMITH_DATA": str(service.data)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 1, ran.stderr
    report = json.loads(ran.stdout)
    for key in ("format", "examples", "counts", "tokens", "estimate", "truncated"):
        assert answer[key] == report[key], key
    assert answer["errors"] == report["findings"]
    assert (answer["object"], answer["valid"]) == ("file.validation", False)
    assert answer["format"] == "chat"
    assert answer["counts"]["duplicate"] >= 1
    assert [each["line"] for each in answer["errors"] if each["severity"] == "error"] == [ASIDE]
    assert answer["tokens"]["total"] > GOOD * 20


def test_the_events_stream_goes_on_behind_the_last_one_seen(service: Service, done: Done) -> None:
    listed = service.client.fine_tuning.jobs.list_events(done.first.id, limit=100)
    ids = [event.id for event in listed][::-1]
    url, headers = f"{path(service, done.first)}/events", {"Accept": "text/event-stream"}

    with httpx.stream("GET", url, headers=headers) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        seen = [line[4:] for line in stream.iter_lines() if line.startswith("id: ")][:5]
    with httpx.stream("GET", url, headers=headers | {"Last-Event-ID": seen[-1]}) as stream:
        seen += [line[4:] for line in stream.iter_lines() if line.startswith("id: ")]

    assert seen == ids
    over = httpx.get(url, headers=headers | {"Last-Event-ID": ids[-1]})
    assert (over.status_code, over.content) == (204, b"")


def test_a_repeated_creation_answers_with_the_first_job(service: Service, done: Done) -> None:
    jobs = service.client.fine_tuning.jobs
    before = [job.id for job in jobs.list(limit=100)]

    again = jobs.with_raw_response.create(**wanted(done.first.training_file))

    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.parse() == jobs.retrieve(done.first.id)
    assert [job.id for job in jobs.list(limit=100)] == before
    with pytest.raises(openai.UnprocessableEntityError, match=done.first.id):
        jobs.create(model="tiny", training_file=done.first.training_file, extra_headers=KEY)
