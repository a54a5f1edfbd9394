"""A job with held-out data ends with a verdict, and a worse model does not take its name."""

from __future__ import annotations

from typing import Any

import httpx

from e2e.rows import jsonl
from e2e.service import Service


def chats(answers: list[str]) -> bytes:
    return jsonl(
        {
            "messages": [
                {"role": "user", "content": f"Say {number}"},
                {"role": "assistant", "content": answer},
            ]
        }
        for number, answer in enumerate(answers)
    )


def judged(service: Service, learnt: list[str], *, gate: str) -> tuple[Any, dict[str, Any]]:
    """Return a job on tiny that learns to say `learnt`, held out being numbers, and its verdict."""
    held_out = chats([f"{number} {number}" for number in range(12)])
    client = service.client
    training = client.files.create(file=("learnt.jsonl", chats(learnt)), purpose="fine-tune")
    validation = client.files.create(file=("valid.jsonl", held_out), purpose="fine-tune")
    tuning = {
        "gate": gate,
        "adapter": {"kind": "full"},
        "learning_rate": 0.02,
        "verdict": {"answers": 2},
    }
    created = client.fine_tuning.jobs.create(
        model="tiny",
        training_file=training.id,
        validation_file=validation.id,
        hyperparameters={"n_epochs": 8, "batch_size": 4},
        extra_body={"tuning": tuning},
    )
    job = service.wait(created.id)
    answer = httpx.get(f"{service.url}/v1/fine_tuning/jobs/{job.id}/verdict")
    return job, answer.json()


def test_a_gate_keeps_a_worse_model_from_its_name_and_leaves_its_checkpoints(
    service: Service,
) -> None:
    job, verdict = judged(service, ["z" * 40] * 12, gate="not_worse")

    assert (job.status, job.fine_tuned_model) == ("failed", None)
    assert (job.error.code, job.error.param) == ("gate_not_passed", "tuning.gate")
    assert job.model_extra["verdict"] == {"outcome": "worse"}
    assert (verdict["outcome"], verdict["gate"]["passed"]) == ("worse", False)
    assert verdict["worse_count"] == len(verdict["worse_lines"]) == 12
    assert verdict["measures"][0]["difference"]["low"] > 0
    client = service.client
    assert verdict["model"] not in {model.id for model in client.models.list()}
    checkpoint = client.fine_tuning.jobs.checkpoints.list(job.id).data[0]
    assert client.models.retrieve(checkpoint.fine_tuned_model_checkpoint).id
    messages = [event.message for event in client.fine_tuning.jobs.list_events(job.id)]
    assert sum(text.startswith("Verdict: worse than") for text in messages) == 1
    assert sum("The gate was not passed" in text for text in messages) == 1


def test_a_better_model_passes_and_shows_by_how_much(service: Service) -> None:
    learnt = [f"{number} {number}" for number in range(24)]

    job, verdict = judged(service, learnt, gate="better")

    assert job.status == "succeeded", job.error
    assert job.model_extra["verdict"] == {"outcome": "better"}
    assert (verdict["model"], verdict["baseline"]) == (job.fine_tuned_model, "tiny")
    assert verdict["gate"]["passed"]
    names = [measure["name"] for measure in verdict["measures"]]
    assert names == ["loss", "perplexity", "token_accuracy", "exact_match", "text_similarity"]
    assert verdict["measures"][0]["difference"]["high"] < 0
    assert [answer["question"] for answer in verdict["answers"]] == ["Say 0", "Say 1"]
    assert len(verdict["general"]) == 16
