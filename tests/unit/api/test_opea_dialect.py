"""What OPEA's clients rely on, and the defects of OPEA that must not be here."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

JOBS = "/v1/fine_tuning/jobs"
JOB_KEYS = [
    "id", "created_at", "error", "fine_tuned_model", "finished_at", "hyperparameters", "model",
    "object", "organization_id", "result_files", "status", "trained_tokens", "training_file",
    "validation_file", "integrations", "seed", "estimated_finish",
]  # fmt: skip
BODY = {"training_file": "alpaca_data.json", "model": "smollm2-135m-instruct"}


@pytest.fixture
def create(
    http: TestClient, upload: Callable[..., dict[str, Any]]
) -> Callable[..., dict[str, Any]]:
    """Return a function that creates a job with further keys in its body."""
    upload("alpaca_data.json")

    def send(**keys: Any) -> dict[str, Any]:
        answer = http.post(JOBS, json=BODY | keys)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    return send


def test_an_upload_answers_with_opeas_keys_first(upload: Callable[..., dict[str, Any]]) -> None:
    answer = upload("alpaca_data.json")
    assert list(answer)[:6] == ["id", "bytes", "created_at", "filename", "object", "purpose"]
    assert answer["filename"] == "alpaca_data.json"
    assert answer["purpose"] == "fine-tune"


def test_the_answer_to_a_creation_starts_as_opeas_tests_expect(
    http: TestClient, upload: Callable[..., dict[str, Any]]
) -> None:
    upload("alpaca_data.json")
    answer = http.post(JOBS, json=BODY)
    assert re.match(r'\{"id":"ft-job-[0-9a-f]{8}-[0-9a-f]{4}-4', answer.text)
    assert list(answer.json()) == JOB_KEYS


def test_a_job_has_opeas_defaults_and_the_file_by_name(
    create: Callable[..., dict[str, Any]], world: Any
) -> None:
    job = create()
    assert job["training_file"] == "alpaca_data.json"
    assert job["hyperparameters"] == {
        "batch_size": 2,
        "learning_rate_multiplier": 5e-05,
        "n_epochs": 1,
    }
    request = world.store.job(job["id"]).request
    assert (request.lora.rank, request.lora.alpha, request.lora.dropout) == (8, 32, 0.1)
    assert (request.max_length, request.held_out_percent) == (512, 5)


def test_the_newest_file_of_a_name_is_meant(
    create: Callable[..., dict[str, Any]], upload: Callable[..., dict[str, Any]], world: Any
) -> None:
    newest = upload("alpaca_data.json", b"newer")
    assert world.store.job(create()["id"]).training_file == newest["id"]


def test_defect_1_hyperparameters_are_accepted(create: Callable[..., dict[str, Any]]) -> None:
    asked = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 1e-4}
    assert create(hyperparameters=asked)["hyperparameters"] == asked


@pytest.mark.parametrize("seed", [7, "7"])
def test_defect_2_an_integer_seed_is_accepted_and_kept(
    create: Callable[..., dict[str, Any]], world: Any, seed: object
) -> None:
    job = create(seed=seed)
    assert job["seed"] == 7
    assert world.store.job(job["id"]).seed == 7


def test_defect_6_thirty_two_processors_are_not_demanded_unless_asked_for(
    create: Callable[..., dict[str, Any]], world: Any
) -> None:
    for resources, cpus in (({"GPU": 0}, None), ({"CPU": 32}, 32)):
        job = create(Training={"resources_per_worker": resources})
        assert world.store.job(job["id"]).request.cpus == cpus


def test_both_dialects_see_the_jobs_of_both(
    create: Callable[..., dict[str, Any]], http: TestClient, upload: Callable[..., dict[str, Any]]
) -> None:
    opea = create()
    file_id = upload()["id"]
    ours = http.post(JOBS, json=BODY | {"training_file": file_id}).json()
    assert [job["id"] for job in http.get(JOBS).json()["data"]] == [ours["id"], opea["id"]]
    assert http.get(JOBS).json()["data"] == [ours, opea]
    seen = http.get(f"{JOBS}/{opea['id']}").json()
    assert seen["training_file"].startswith("file-")
    assert "method" in seen
    other = http.post(f"{JOBS}/retrieve", json={"fine_tuning_job_id": ours["id"]}).json()
    assert list(other) == JOB_KEYS
    assert other["training_file"] == "train.jsonl"
    assert other["hyperparameters"]["learning_rate_multiplier"] == "auto"


def test_a_running_job_shows_the_absolute_learning_rate(
    create: Callable[..., dict[str, Any]], http: TestClient, world: Any
) -> None:
    job = world.run(create()["id"])
    seen = http.post(f"{JOBS}/retrieve", json={"fine_tuning_job_id": job.id}).json()
    assert seen["status"] == "running"
    assert seen["hyperparameters"]["learning_rate_multiplier"] == 4e-4


def test_checkpoints_are_a_bare_array_with_the_result_first_and_the_same_each_time(
    create: Callable[..., dict[str, Any]], http: TestClient, world: Any
) -> None:
    job_id = create()["id"]
    body = {"fine_tuning_job_id": job_id}
    url = "/v1/finetune/list_checkpoints"
    assert http.post(url, json=body).json() == []
    world.run(job_id)
    paths = [saved["fine_tuned_model_checkpoint"] for saved in http.post(url, json=body).json()]
    assert paths == [f"output/{job_id}/checkpoint-10", f"output/{job_id}/checkpoint-5"]
    world.finish(job_id)
    final, *others = http.post(url, json=body).json()
    assert list(final) == [
        "id", "created_at", "fine_tuned_model_checkpoint", "fine_tuning_job_id", "metrics",
        "object", "step_number",
    ]  # fmt: skip
    assert final["fine_tuned_model_checkpoint"] == f"output/{job_id}"
    assert final["step_number"] is None
    assert final["metrics"]["train_loss"] == 0.5
    assert [saved["step_number"] for saved in others] == [10, 5]
    assert len({saved["id"] for saved in (final, *others)}) == 3
    assert http.post(url, json=body).json() == [final, *others]


def test_a_job_is_cancelled_once(create: Callable[..., dict[str, Any]], http: TestClient) -> None:
    body = {"fine_tuning_job_id": create()["id"]}
    assert http.post(f"{JOBS}/cancel", json=body).json()["status"] == "cancelled"
    again = http.post(f"{JOBS}/cancel", json=body)
    assert again.status_code == 400
    assert "already been cancelled" in again.json()["detail"]


@pytest.mark.parametrize(
    "path", [f"{JOBS}/retrieve", f"{JOBS}/cancel", "/v1/finetune/list_checkpoints"]
)
def test_opeas_own_routes_answer_errors_as_opea_does(http: TestClient, path: str) -> None:
    unknown = http.post(path, json={"fine_tuning_job_id": "ft-job-x"})
    assert unknown.status_code == 404
    assert unknown.json() == {"detail": "Fine-tuning job 'ft-job-x' not found!"}
    for body in (b"", b"[", b"[]", b"{}", b'{"fine_tuning_job_id": 5}', b'{"a": NaN}'):
        refused = http.post(path, content=body, headers={"content-type": "application/json"})
        assert refused.status_code == 422, body
        assert list(refused.json()) == ["detail"]
    assert "fine_tuning_job_id" in http.post(path, json={}).json()["detail"]


def test_an_unknown_file_name_is_answered_in_opeas_words(http: TestClient) -> None:
    answer = http.post(JOBS, json=BODY)
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "Training file 'alpaca_data.json' not found!"
    assert answer.json()["error"]["param"] == "training_file"


def test_the_service_says_that_it_is_up(http: TestClient) -> None:
    assert list(http.get("/v1/health_check").json()) == [
        "Service Title",
        "Version",
        "Service Description",
    ]
    assert http.get("/v1/statistics").json() == {}
    assert (http.get("/health").status_code, http.get("/health").content) == (200, b"")


def test_a_file_whose_name_begins_like_an_id_is_found_by_name(
    http: TestClient, upload: Callable[..., dict[str, Any]]
) -> None:
    upload("file-2024-11.json")
    answer = http.post(JOBS, json=BODY | {"training_file": "file-2024-11.json"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["training_file"] == "file-2024-11.json"


def test_a_named_file_of_another_purpose_is_told_apart_from_an_unknown_one(
    http: TestClient, upload: Callable[..., dict[str, Any]]
) -> None:
    for purpose in ("batch", "assistants"):
        form = {"files": {"file": ("a.json", b"x")}, "data": {"purpose": purpose}}
        http.post("/v1/files", **form)  # type: ignore[arg-type]
    refused = http.post(JOBS, json=BODY | {"training_file": "a.json"})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "training_file"
    assert "'a.json' has the purpose 'assistants'" in refused.json()["error"]["message"]
    assert "uploaded with purpose 'fine-tune'" in refused.json()["error"]["message"]
    unknown = http.post(JOBS, json=BODY | {"training_file": "b.json"})
    assert unknown.status_code == 404
    assert unknown.json()["error"]["message"] == "Training file 'b.json' not found!"
    upload("b.json")
    again = http.post(JOBS, json=BODY | {"training_file": "b.json", "validation_file": "a.json"})
    assert again.json()["error"]["param"] == "validation_file"


def test_a_paused_job_is_queued_in_opeas_words(
    http: TestClient, create: Callable[..., dict[str, Any]], world: Any
) -> None:
    job = create()
    world.run(job["id"])
    assert http.post(f"{JOBS}/{job['id']}/pause").json()["status"] == "paused"
    shown = http.post(f"{JOBS}/retrieve", json={"fine_tuning_job_id": job["id"]}).json()
    assert shown["status"] == "queued"
    [listed] = http.get(JOBS).json()["data"]
    assert listed["status"] == "queued"


def test_a_refused_job_is_told_in_the_words_that_each_dialects_clients_read(
    http: TestClient,
) -> None:
    asked = {"model": "smollm2-135m-instruct", "training_file": "absent.json"}
    answer = http.post("/v1/fine_tuning/jobs", json=asked)
    assert answer.status_code == 404
    assert answer.json()["detail"] == "Training file 'absent.json' not found!"
    assert answer.json()["error"]["message"] == answer.json()["detail"]
    misread = http.post("/v1/fine_tuning/jobs", json={**asked, "Training": {"epochs": 0}})
    assert "Training.epochs" in misread.json()["detail"]
    theirs = http.post("/v1/fine_tuning/jobs", json={**asked, "training_file": "file-" + "a" * 24})
    assert set(theirs.json()) == {"error"}
