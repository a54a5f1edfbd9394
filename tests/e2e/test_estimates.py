"""What a job would take is measured by real steps, before there is a job."""

from __future__ import annotations

import json
from typing import Any

import httpx

from e2e.service import Service, until

ENDED = ("succeeded", "failed")


def estimated(service: Service, **request: Any) -> dict[str, Any]:
    """Return the estimate of a job on 60 rows, once it has ended."""
    rows = [{"instruction": f"Say {n}", "output": f"{n} " * (n + 1)} for n in range(60)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = service.client.files.create(file=("say.jsonl", content), purpose="fine-tune")
    path = f"{service.url}/v1/fine_tuning/estimate"
    asked = httpx.post(path, json={"model": "tiny", "training_file": file.id, **request}).json()
    assert asked["status"] == "queued", asked

    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = httpx.get(f"{path}/{asked['id']}").json()
        return found if found["status"] in ENDED else None

    return until(ended, 240)


def test_an_estimate_tells_memory_speed_and_end_and_leaves_no_trace(service: Service) -> None:
    jobs = len(list(service.client.fine_tuning.jobs.list(limit=100)))

    found = estimated(service, hyperparameters={"n_epochs": 2, "batch_size": 4})

    assert found["status"] == "succeeded", found
    assert (found["fits"], found["steps"], found["error"]) == (True, 30, None)
    assert 50_000_000 < found["peak_memory_bytes"] < 4_000_000_000
    assert found["seconds_per_step"] > 0
    seconds = found["estimated_seconds"]
    assert 0.8 * 30 * found["seconds_per_step"] < seconds["most"]
    assert seconds["least"] <= seconds["most"]
    assert found["estimated_finish"]["least"] == found["finished_at"] + seconds["least"]
    assert not (service.data / "runs" / found["id"]).exists()
    assert not (service.data / "output" / found["id"]).exists()
    assert len(list(service.client.fine_tuning.jobs.list(limit=100))) == jobs


def test_what_could_never_run_is_told_without_a_job(service: Service) -> None:
    found = estimated(service, tuning={"cpus": 512})
    assert (found["status"], found["fits"]) == ("failed", None)
    assert found["error"]["code"] == "resources_unavailable"
    assert found["error"]["param"] == "tuning.cpus"
