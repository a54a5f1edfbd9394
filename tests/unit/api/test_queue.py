"""A waiting job says why, and tells nobody of other projects' jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import openai
import pytest

from tunesmith.domain.jobs import JobChange, JobStatus
from tunesmith.domain.queue import Holder, Wait

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from unit.api.conftest import World

BASE = "smollm2-135m-instruct"


@pytest.fixture
def waiting(world: World, client: openai.OpenAI, upload: Callable[..., dict[str, Any]]) -> str:
    """Return the id of a job that was told why it waits."""
    job = client.fine_tuning.jobs.create(model=BASE, training_file=upload()["id"])
    world.store.change_job(world.store.job(job.id), JobChange(status=JobStatus.QUEUED))
    holders = (
        Holder(job_id="ftjob-own", project="default", resources={"CPU": 2.0}, until=9),
        Holder(job_id="ftjob-theirs", project="others", resources={"CPU": 6.0}, until=None),
    )
    wait = Wait(
        job_id=job.id,
        position=3,
        reason="It lacks 2 CPU.",
        missing={"CPU": 2.0},
        held_by=holders,
        expected_start=9,
    )
    world.store.tell_waits([wait], over=())
    return job.id


SHOWN = {
    "position": 3,
    "reason": "It lacks 2 CPU.",
    "missing": {"CPU": 2.0},
    "held_by": [
        {"job": "ftjob-own", "resources": {"CPU": 2.0}, "until": 9},
        {"job": None, "resources": {"CPU": 6.0}, "until": None},
    ],
    "expected_start": 9,
}


def test_it_is_shown_with_the_job_and_in_lists(http: TestClient, waiting: str) -> None:
    assert http.get(f"/v1/fine_tuning/jobs/{waiting}").json()["queue"] == SHOWN
    assert http.get("/v1/fine_tuning/jobs").json()["data"][0]["queue"] == SHOWN


def test_a_job_that_waits_no_more_does_not_show_what_it_was_told(
    world: World, http: TestClient, waiting: str
) -> None:
    world.store.change_job(world.store.job(waiting), JobChange(attempt=1, submission_open=True))
    assert http.get(f"/v1/fine_tuning/jobs/{waiting}").json()["queue"] is None
    assert http.get("/v1/fine_tuning/jobs").json()["data"][0]["queue"] is None


def test_turn_memory_and_deadline_are_options_and_shown(
    world: World, client: openai.OpenAI, upload: Callable[..., dict[str, Any]]
) -> None:
    asked = {"priority": "high", "memory": 2**30, "max_run_seconds": 600}
    job = client.fine_tuning.jobs.create(
        model=BASE, training_file=upload()["id"], extra_body={"tuning": asked}
    )
    request = world.store.job(job.id).request
    assert (request.priority, request.memory, request.max_run_seconds) == ("high", 2**30, 600)
    shown = job.model_dump()["tuning"]
    assert {key: shown[key] for key in asked} == asked


@pytest.mark.parametrize(
    ("key", "value"), [("priority", "urgent"), ("memory", 0), ("max_run_seconds", 0)]
)
def test_values_out_of_bounds_are_refused_by_name(
    client: openai.OpenAI, upload: Callable[..., dict[str, Any]], key: str, value: Any
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.fine_tuning.jobs.create(
            model=BASE, training_file=upload()["id"], extra_body={"tuning": {key: value}}
        )
    assert caught.value.param == f"tuning.{key}"
