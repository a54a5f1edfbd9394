"""The verdict on a job is shown as its run has left it, and says why where there is none."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.jobs import JobChange
from tunesmith.domain.verdicts import (
    Answer,
    Gate,
    HeldOut,
    Interval,
    Measure,
    Verdict,
    VerdictOutcome,
    gate_result,
)

JOBS = "/v1/fine_tuning/jobs"


def interval(value: float) -> Interval:
    return Interval(value=value, low=value - 0.25, high=value + 0.25)


LOSS = Measure(
    name="loss",
    better="lower",
    baseline=interval(2.0),
    tuned=interval(1.5),
    difference=interval(-0.5),
)
VERDICT = Verdict(
    model="ft:tiny",
    outcome=VerdictOutcome.BETTER,
    held_out=HeldOut(lines=7, tokens=90),
    measures=(LOSS,),
    result_step=10,
    best_checkpoint=None,
    worse_lines=(),
    worse_count=0,
    answers=(
        Answer(line=3, element=0, question="Why?", wanted="So.", baseline="No.", tuned="So."),
    ),
    gate=gate_result(Gate.BETTER, VerdictOutcome.BETTER, loss=LOSS, lines=7),
)


def created(http: TestClient, upload: Any, **fields: Any) -> str:
    body = {"model": "smollm2-135m-instruct", "training_file": upload()["id"], **fields}
    answer = http.post(JOBS, json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def test_a_verdict_is_what_the_run_has_found(http: TestClient, upload: Any, world: Any) -> None:
    job_id = created(http, upload, tuning={"held_out_percent": 10, "gate": "better"})
    world.run(job_id)
    RunDirectory(world.artifacts, job_id).write_verdict(VERDICT)

    shown = http.get(f"{JOBS}/{job_id}/verdict").json()

    assert shown["object"] == "fine_tuning.job.verdict"
    assert shown["job_id"] == job_id
    assert (shown["model"], shown["baseline"]) == ("ft:tiny", "smollm2-135m-instruct")
    assert (shown["outcome"], shown["held_out"]) == ("better", {"lines": 7, "tokens": 90})
    assert shown["measures"] == [
        {
            "name": "loss",
            "better": "lower",
            "baseline": {"value": 2.0, "low": 1.75, "high": 2.25},
            "tuned": {"value": 1.5, "low": 1.25, "high": 1.75},
            "difference": {"value": -0.5, "low": -0.75, "high": -0.25},
        }
    ]
    assert shown["answers"][0]["tuned"] == "So."
    assert (shown["gate"]["rule"], shown["gate"]["passed"]) == ("better", True)
    assert "-0.5000 (95 % interval -0.7500 to -0.2500)" in shown["gate"]["reason"]


def test_a_job_carries_its_outcome_once_there_is_one(
    http: TestClient, upload: Any, world: Any
) -> None:
    job_id = created(http, upload)
    job = world.run(job_id)
    assert http.get(f"{JOBS}/{job_id}").json()["verdict"] is None

    world.store.change_job(job, JobChange(verdict=VerdictOutcome.WORSE))

    assert http.get(f"{JOBS}/{job_id}").json()["verdict"] == {"outcome": "worse"}


@pytest.mark.parametrize(
    ("tuning", "why"),
    [
        ({}, "It holds no examples out"),
        ({"held_out_percent": 10}, "It is made at the end of training"),
    ],
)
def test_while_there_is_none_it_is_told_why(
    http: TestClient, upload: Any, tuning: dict[str, Any], why: str
) -> None:
    job_id = created(http, upload, tuning=tuning)
    answer = http.get(f"{JOBS}/{job_id}/verdict")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (404, "verdict_not_made")
    assert why in error["message"]


def test_a_job_that_ended_before_says_so(http: TestClient, upload: Any) -> None:
    job_id = created(http, upload, tuning={"held_out_percent": 10})
    http.post(f"{JOBS}/{job_id}/cancel")
    message = http.get(f"{JOBS}/{job_id}/verdict").json()["error"]["message"]
    assert "It ended before one was made." in message


def test_an_unknown_job_has_none(http: TestClient) -> None:
    answer = http.get(f"{JOBS}/ftjob-none/verdict")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] != "verdict_not_made"


@pytest.mark.parametrize("tuning", [{"gate": "better"}, {"verdict": {"answers": 5}}])
def test_what_needs_held_out_examples_is_refused_without(
    http: TestClient, upload: Any, tuning: dict[str, Any]
) -> None:
    body = {"model": "smollm2-135m-instruct", "training_file": upload()["id"], "tuning": tuning}
    answer = http.post(JOBS, json=body)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["param"] == "tuning." + ("gate" if "gate" in tuning else "verdict.answers")
    assert "'validation_file'" in error["message"]
    assert "'tuning.held_out_percent'" in error["message"]
