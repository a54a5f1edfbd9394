"""An estimate is asked for by the request that would create the job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from tunesmith.domain.estimates import EstimateStatus, Measurement
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.jobs import JobError
from unit.api.conftest import BASE, World

PATH = "/v1/fine_tuning/estimate"
FOUND = Measurement(
    peak_memory=2_000_000_000,
    startup_seconds=5.5,
    longest_step_seconds=4.0,
    step_seconds=2.0,
    steps=90,
)


@pytest.fixture
def asked(http: TestClient, upload: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    body = {"model": BASE, "training_file": upload()["id"], "seed": 7}
    answer = http.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def end(world: World, asked: dict[str, Any], **changes: Any) -> None:
    """End the estimate, as the controller does."""
    seen = world.store.estimate(asked["id"])
    ended = seen.model_copy(update={"finished_at": 1000, **changes})
    world.store.change_estimate(seen, ended)


def test_an_estimate_is_queued_at_first_and_knows_nothing(
    http: TestClient, world: World, asked: dict[str, Any]
) -> None:
    assert asked["object"] == "fine_tuning.estimate"
    assert asked["id"].startswith("ftestimate-")
    assert (asked["status"], asked["model"]) == ("queued", BASE)
    for name in ("fits", "peak_memory_bytes", "seconds_per_step", "estimated_seconds", "error"):
        assert asked[name] is None
    assert http.get(f"{PATH}/{asked['id']}").json() == asked
    assert world.store.estimate(asked["id"]).job.seed == 7


def test_no_job_is_created(http: TestClient, asked: dict[str, Any]) -> None:
    assert http.get("/v1/fine_tuning/jobs").json()["data"] == []
    assert http.get(f"/v1/fine_tuning/jobs/{asked['id']}").status_code == 404


def test_what_was_measured_is_shown_with_an_interval_for_the_end(
    http: TestClient, world: World, asked: dict[str, Any]
) -> None:
    end(world, asked, status=EstimateStatus.SUCCEEDED, measurement=FOUND)

    found = http.get(f"{PATH}/{asked['id']}").json()

    assert (found["status"], found["fits"], found["steps"]) == ("succeeded", True, 90)
    assert found["peak_memory_bytes"] == 2_000_000_000
    assert (found["seconds_per_step"], found["longest_step_seconds"]) == (2.0, 4.0)
    # 5.5 s, and 90 steps of 2 s at 0.8 and at 1.5 times that.
    assert found["estimated_seconds"] == {"least": 149, "most": 276}
    assert found["estimated_finish"] == {"least": 1149, "most": 1276}


def test_a_limit_of_time_bounds_the_interval() -> None:
    assert FOUND.seconds((0.8, 1.5), limit=200) == (149.5, 205.5)
    assert FOUND.seconds((0.8, 1.5), limit=100) == (105.5, 105.5)


def test_a_job_that_does_not_fit_is_told_with_the_part_of_a_request_that_does(
    http: TestClient, world: World, asked: dict[str, Any]
) -> None:
    error = JobError(
        code=FailureCode.OUT_OF_MEMORY, message="Line 3 is long.", change={"max_length": 64}
    )
    end(world, asked, status=EstimateStatus.FAILED, error=error)

    found = http.get(f"{PATH}/{asked['id']}").json()

    assert (found["status"], found["fits"]) == ("failed", False)
    assert found["error"] == {
        "code": "out_of_memory",
        "message": "Line 3 is long.",
        "param": None,
        "change": {"tuning": {"max_length": 64}},
    }


def test_a_request_that_creates_no_job_gets_no_estimate(
    http: TestClient, upload: Callable[..., dict[str, Any]]
) -> None:
    unknown = http.post(PATH, json={"model": BASE, "training_file": "file-" + "a" * 24})
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "training_file")
    misspelt = http.post(PATH, json={"model": BASE, "training_file": upload()["id"], "seeed": 1})
    assert (misspelt.status_code, misspelt.json()["error"]["param"]) == (400, "seeed")
    assert http.get(f"{PATH}/ftestimate-x").status_code == 404


def test_opeas_request_is_taken_as_well(
    http: TestClient, upload: Callable[..., dict[str, Any]]
) -> None:
    upload("chats.jsonl")
    answer = http.post(PATH, json={"model": BASE, "training_file": "chats.jsonl"})
    assert answer.status_code == 200
    assert answer.json()["status"] == "queued"
