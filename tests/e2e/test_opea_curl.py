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
FILE_KEYS = ["id", "bytes", "created_at", "filename", "object", "purpose"]
JOB_KEYS = [
    "id", "created_at", "error", "fine_tuned_model", "finished_at", "hyperparameters", "model",
    "object", "organization_id", "result_files", "status", "trained_tokens", "training_file",
    "validation_file", "integrations", "seed", "estimated_finish",
]  # fmt: skip
CHECKPOINT_KEYS = [
    "id", "created_at", "fine_tuned_model_checkpoint", "fine_tuning_job_id", "metrics", "object",
    "step_number",
]  # fmt: skip


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
    assert list(answer)[:6] == FILE_KEYS, "others follow behind OPEA's own"
    assert answer["id"].startswith("file-")
    assert answer["bytes"] == file.stat().st_size
    assert (answer["purpose"], answer["filename"]) == ("fine-tune", "alpaca_data.json")
    body = {"training_file": "alpaca_data.json", "model": MODEL, "Training": {"batch_size": 4}}
    text = opea.post("/fine_tuning/jobs", body)
    assert text.startswith('{"id":"ft-job')
    created: dict[str, Any] = json.loads(text)
    assert list(created) == JOB_KEYS
    return opea.wait(created["id"])


def test_the_job_succeeds_and_its_fields_are_filled_truthfully(job: dict[str, Any]) -> None:
    assert job["status"] == "succeeded", job["error"]
    assert list(job) == JOB_KEYS
    assert (job["object"], job["model"]) == ("fine_tuning.job", MODEL)
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
    assert {tuple(checkpoint) for checkpoint in checkpoints} == {tuple(CHECKPOINT_KEYS)}
    assert {each["object"] for each in checkpoints} == {"fine_tuning.job.checkpoint"}
    assert checkpoints[0]["step_number"] is None, "the result itself comes first"
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
    assert list(listed) == ["object", "data", "has_more"]
    assert listed["object"] == "list"
    assert job in listed["data"]


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

    assert list(cancelled) == JOB_KEYS
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
    for path in ("/fine_tuning/jobs/cancel", "/finetune/list_checkpoints"):
        assert json.loads(opea.post(path, {"fine_tuning_job_id": "ft-job-x"})) == unknown
    assert absent["error"]["message"] == "Training file 'absent.json' not found!"


def test_a_checkpoint_that_was_listed_is_what_another_job_resumes_from(
    service: Service, opea: Opea, tmp_path: Path
) -> None:
    opea.upload(alpaca(tmp_path / "again.json", 20))
    body = {"training_file": "again.json", "model": "tiny"}
    first = opea.wait(json.loads(opea.post("/fine_tuning/jobs", body))["id"])
    listed = opea.post("/finetune/list_checkpoints", {"fine_tuning_job_id": first["id"]})
    place = json.loads(listed)[0]["fine_tuned_model_checkpoint"]

    general = {"resume_from_checkpoint": place}
    again = json.loads(opea.post("/fine_tuning/jobs", body | {"General": general}))

    assert opea.wait(again["id"])["status"] == "succeeded"
    spec = json.loads((service.data / "runs" / again["id"] / "spec.json").read_text())
    assert spec["start_from"] == place == f"output/{first['id']}"


def test_pairs_are_learnt_by_the_task_dpo(service: Service, opea: Opea, tmp_path: Path) -> None:
    rows = [
        {"system": "", "question": f"Double {n}?", "chosen": str(2 * n), "rejected": "No."}
        for n in range(12)
    ]
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    opea.upload(tmp_path / "pairs.json")
    body = {
        "training_file": "pairs.json",
        "model": "tiny",
        "General": {"task": "dpo"},
        "Training": {"dpo_beta": 0.3, "learning_rate": 1e-3},
    }

    job = opea.wait(json.loads(opea.post("/fine_tuning/jobs", body))["id"])

    assert job["status"] == "succeeded", job["error"]
    seen = service.client.fine_tuning.jobs.retrieve(job["id"])
    assert seen.method is not None
    assert seen.method.dpo is not None
    assert seen.method.dpo.hyperparameters is not None
    assert seen.method.dpo.hyperparameters.beta == 0.3


@pytest.mark.parametrize(
    ("task", "row", "learnt"),
    [
        ("pretraining", {"text": "{} men went to mow a meadow. " * 8}, [39, 39]),
        ("reasoning", {"Question": "{}?", "Complex_CoT": "Hm.", "Response": "Yes."}, None),
    ],
)
def test_texts_and_thoughts_are_learnt_by_their_tasks(
    service: Service, opea: Opea, tmp_path: Path, task: str, row: dict[str, str], learnt: Any
) -> None:
    rows = [{key: said.replace("{}", str(n)) for key, said in row.items()} for n in range(12)]
    (tmp_path / f"{task}.json").write_text(json.dumps(rows))
    opea.upload(tmp_path / f"{task}.json")
    body = {
        "training_file": f"{task}.json",
        "model": "tiny",
        "General": {"task": task},
        "Dataset": {"block_size": 40} if learnt else {},
        "Training": {"learning_rate": 1e-3},
    }

    job = opea.wait(json.loads(opea.post("/fine_tuning/jobs", body))["id"])

    assert job["status"] == "succeeded", job["error"]
    seen = service.client.fine_tuning.jobs.retrieve(job["id"])
    assert seen.to_dict()["tuning"]["objective"] == task  # type: ignore[index]
    path = service.data / "runs" / job["id"] / "receipt.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    first = [line for line in lines if line["element"] == 1]
    if learnt:
        assert [line["tokens_learnt"] for line in first][:2] == learnt
    else:
        said = "<think>\nHm.\n</think>\n\nYes."
        assert [line["tokens_learnt"] for line in first] == [len(said) + 1]
    assert first[-1]["end_learnt"]


def test_a_key_with_a_wrong_value_is_refused_by_its_name(opea: Opea, tmp_path: Path) -> None:
    opea.upload(alpaca(tmp_path / "some.json", 10))
    body = {"training_file": "some.json", "model": "tiny"}

    refused = json.loads(opea.post("/fine_tuning/jobs", body | {"Training": {"device": "tpu"}}))
    misspelt = json.loads(opea.post("/fine_tuning/jobs", body | {"General": {"lora": {}}}))
    shapeless = json.loads(opea.post("/fine_tuning/jobs/retrieve", {"id": "ft-job-x"}))

    assert refused["error"]["param"] == "Training.device"
    assert misspelt["error"]["param"] == "General.lora"
    assert list(shapeless) == ["detail"]
    assert "fine_tuning_job_id" in shapeless["detail"]


def test_the_health_checks_answer_as_opeas_do(service: Service, opea: Opea) -> None:
    health = json.loads(curl(f"{opea.url}/health_check"))
    plain = curl("-w", "%{http_code}", f"{service.url}/health")
    described = json.loads(curl(f"{service.url}/openapi.json"))

    assert list(health) == ["Service Title", "Version", "Service Description"]
    assert plain == "200", "an empty body and 200"
    assert {
        "/v1/files",
        "/v1/fine_tuning/jobs",
        "/v1/fine_tuning/jobs/retrieve",
        "/v1/fine_tuning/jobs/cancel",
        "/v1/finetune/list_checkpoints",
        "/v1/health_check",
        "/v1/statistics",
        "/health",
    } <= set(described["paths"])
    assert "swagger" in curl(f"{service.url}/docs").lower()
