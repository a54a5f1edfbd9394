"""A job's curves come thinned out, in the order of its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from tunesmith.domain.events import RunEvent, StepMetrics

if TYPE_CHECKING:
    from unit.api.conftest import World


def step(number: int, *, at: int, loss: float, valid: float | None = None) -> RunEvent:
    metrics = StepMetrics(
        step=at,
        train_loss=loss,
        train_mean_token_accuracy=0.5,
        valid_loss=valid,
        total_steps=5000,
        learning_rate=1e-4,
        tokens_per_second=1.0,
        seconds_left=1.0,
    )
    return RunEvent(number=number, created_at=1, message="Step", metrics=metrics)


def test_long_curves_keep_their_peak_and_their_evaluations(
    live: httpx.Client, world: World, job_id: str
) -> None:
    events = [
        step(at - 7, at=at, loss=9.0 if at == 777 else 1.0, valid=2.0 if at % 1000 == 0 else None)
        for at in range(11, 3011)
    ]
    for number, event in enumerate(events, start=3):
        events[number - 3] = event.model_copy(update={"number": number})
    world.store.ingest(job_id, events, checkpoints=[])

    answer = live.get(f"/v1/fine_tuning/jobs/{job_id}/metrics", params={"points": 100}).json()

    steps = [each["step"] for each in answer["data"]]
    assert answer["steps"] == 3002
    assert len(steps) <= 100
    assert steps == sorted(set(steps))
    assert {5, 777, 1000, 2000, 3000, 3010} <= set(steps)


def test_a_step_that_was_taken_again_is_told_once(
    live: httpx.Client, world: World, job_id: str
) -> None:
    world.store.ingest(job_id, [step(3, at=10, loss=7.0)], checkpoints=[])

    answer = live.get(f"/v1/fine_tuning/jobs/{job_id}/metrics").json()

    assert [(each["step"], each["train_loss"]) for each in answer["data"]] == [(5, 0.5), (10, 7.0)]


@pytest.mark.parametrize("points", [9, 10_001])
def test_no_other_number_of_points_is_taken(live: httpx.Client, job_id: str, points: int) -> None:
    path = f"/v1/fine_tuning/jobs/{job_id}/metrics"

    assert live.get(path, params={"points": points}).status_code == 400


def test_an_unknown_job_has_no_curves(live: httpx.Client) -> None:
    assert live.get("/v1/fine_tuning/jobs/ftjob-none/metrics").status_code == 404
