"""OPEA's dialect, spoken with curl as OPEA's own test script does, on a real model."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from e2e.service import ENDED, Service, until

MODEL = "smollm2-135m-instruct"
JSON = ("-H", "Content-Type: application/json")


def curl(*arguments: str) -> str:
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "20", *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


class Opea:
    """OPEA's client: a few lines around curl."""

    def __init__(self, service: Service) -> None:
        self.url = f"{service.url}/v1"

    def post(self, path: str, body: dict[str, Any]) -> str:
        return curl(f"{self.url}{path}", *JSON, "-d", json.dumps(body))

    def upload(self, file: Path) -> dict[str, Any]:
        form = ("-F", f"file=@{file}", "-F", "purpose=fine-tune")
        answer: dict[str, Any] = json.loads(curl(f"{self.url}/files", *form))
        return answer

    def retrieve(self, job_id: str) -> dict[str, Any]:
        body = {"fine_tuning_job_id": job_id}
        answer: dict[str, Any] = json.loads(self.post("/fine_tuning/jobs/retrieve", body))
        return answer

    def wait(self, job_id: str) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            job = self.retrieve(job_id)
            return job if job["status"] in ENDED else None

        return until(ended, 240)


@pytest.fixture(scope="module")
def opea(service: Service) -> Opea:
    return Opea(service)


def alpaca(path: Path, count: int) -> Path:
    rows = [
        {"instruction": f"Count to {n}.", "input": "", "output": " ".join(map(str, range(n + 1)))}
        for n in range(count)
    ]
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture(scope="module")
def job(opea: Opea, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A job made as OPEA's README makes it, from upload to success."""
    file = alpaca(tmp_path_factory.mktemp("opea") / "alpaca_data.json", 20)
    answer = opea.upload(file)
    assert (answer["purpose"], answer["filename"]) == ("fine-tune", "alpaca_data.json")
    body = {"training_file": "alpaca_data.json", "model": MODEL, "Training": {"batch_size": 4}}
    text = opea.post("/fine_tuning/jobs", body)
    assert text.startswith('{"id":"ft-job')
    created: dict[str, Any] = json.loads(text)
    return opea.wait(created["id"])


def test_the_job_succeeds_and_its_fields_are_filled_truthfully(job: dict[str, Any]) -> None:
    assert job["status"] == "succeeded", job["error"]
    assert job["training_file"] == "alpaca_data.json"
    assert job["hyperparameters"] == {
        "batch_size": 4,
        "learning_rate_multiplier": 5e-5,
        "n_epochs": 1,
    }
    assert job["fine_tuned_model"].startswith(f"ft:{MODEL}:")
    assert job["trained_tokens"] > 100
    assert job["finished_at"] >= job["created_at"]


def test_the_held_out_twentieth_is_really_evaluated(service: Service, job: dict[str, Any]) -> None:
    receipt = json.loads((service.data / "runs" / job["id"] / "receipt.json").read_text())

    assert receipt["held_out_examples"] == 1
    assert receipt["final_valid_loss"] > 0


def test_the_checkpoints_are_a_bare_array_of_places_that_exist(
    service: Service, opea: Opea, job: dict[str, Any]
) -> None:
    text = opea.post("/finetune/list_checkpoints", {"fine_tuning_job_id": job["id"]})

    checkpoints = json.loads(text)
    places = [checkpoint["fine_tuned_model_checkpoint"] for checkpoint in checkpoints]
    assert f"output/{job['id']}" in places
    for place in places:
        assert (service.data / place / "adapter_model.safetensors").is_file()
    again = opea.post("/finetune/list_checkpoints", {"fine_tuning_job_id": job["id"]})
    assert again == text


def test_the_job_is_seen_through_the_other_dialect_too(
    service: Service, opea: Opea, job: dict[str, Any]
) -> None:
    seen = service.client.fine_tuning.jobs.retrieve(job["id"])
    listed = json.loads(curl(f"{opea.url}/fine_tuning/jobs"))

    assert seen.status == "succeeded"
    assert seen.training_file.startswith("file-")
    assert job["id"] in [each["id"] for each in listed["data"]]


def test_of_two_files_with_one_name_the_newest_is_used(
    service: Service, opea: Opea, tmp_path: Path
) -> None:
    opea.upload(alpaca(tmp_path / "same.json", 10))
    newest = opea.upload(alpaca(tmp_path / "same.json", 12))

    created = json.loads(
        opea.post("/fine_tuning/jobs", {"training_file": "same.json", "model": "tiny"})
    )

    seen = service.client.fine_tuning.jobs.retrieve(created["id"])
    assert seen.training_file == newest["id"]
    assert opea.wait(created["id"])["status"] == "succeeded"


def test_a_job_is_cancelled_by_opeas_route(opea: Opea, tmp_path: Path) -> None:
    opea.upload(alpaca(tmp_path / "long.json", 40))
    body = {"training_file": "long.json", "model": "tiny", "hyperparameters": {"n_epochs": 50}}
    created = json.loads(opea.post("/fine_tuning/jobs", body))

    cancelled = json.loads(
        opea.post("/fine_tuning/jobs/cancel", {"fine_tuning_job_id": created["id"]})
    )

    assert cancelled["status"] == "cancelled"
    assert opea.retrieve(created["id"])["status"] == "cancelled"


def test_unknown_names_and_ids_are_answered_as_opea_answers(opea: Opea) -> None:
    unknown = json.loads(
        opea.post("/fine_tuning/jobs/retrieve", {"fine_tuning_job_id": "ft-job-x"})
    )
    absent = json.loads(
        opea.post("/fine_tuning/jobs", {"training_file": "absent.json", "model": MODEL})
    )

    assert unknown == {"detail": "Fine-tuning job 'ft-job-x' not found!"}
    assert absent["error"]["message"] == "Training file 'absent.json' not found!"
