"""Two services share a data folder: one controller leads, and the other takes over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from e2e.conftest import new_data
from e2e.service import Service, make_job, running, until
from e2e.test_kills import until_step
from tunesmith.cli.database import open_store
from tunesmith.domain.liveness import CONTROLLER, STANDBY

EPOCHS = 4
STEPS = 30 * EPOCHS
MOST = 10.0
"""Seconds within which the second takes over."""


@pytest.fixture
def pair(tmp_path: Path, tiny_model: Path) -> Iterator[tuple[Service, Service]]:
    """The service that leads and the one that stands by."""
    data = new_data(tmp_path, tiny_model)
    with running(data) as first:
        until(lambda: holder(first, CONTROLLER), 20)
        with running(data) as second:
            until(lambda: holder(second, STANDBY), 20)
            yield first, second


def holder(service: Service, name: str) -> str | None:
    """Return who holds the lease of that name."""
    store = open_store(service.data, service.environment.get("TUNESMITH_DATABASE_URL"))
    try:
        lease = store.lease(name)
    finally:
        store.close()
    return lease.holder if lease else None


def until_another_leads(service: Service, leader: str | None) -> float:
    """Wait until somebody else than `leader` leads, and return the seconds that it took."""
    began = time.monotonic()
    until(lambda: (now := holder(service, CONTROLLER)) and now != leader, 60)
    return time.monotonic() - began


def kill_both(service: Service) -> None:
    """Kill the API and its controller at once, so that neither can give its lease back."""
    victim = service.controller()
    victim.suspend()
    service.kill()
    victim.kill()


def test_both_answer_for_the_same_jobs_and_the_second_takes_over_when_the_first_is_killed(
    pair: tuple[Service, Service],
) -> None:
    first, second = pair
    job = make_job(second, epochs=EPOCHS)
    until_step(first, job, 10)
    assert httpx.get(f"{second.url}/ready").json()["standby"] is True
    leader = holder(first, CONTROLLER)

    kill_both(first)
    assert until_another_leads(second, leader) < MOST

    done = second.wait(job.id)
    assert done.status == "succeeded"
    assert second.steps(job.id) == list(range(1, STEPS + 1))
    assert (second.data / "runs" / job.id / "attempt").read_text() == "1"
    assert httpx.get(f"{second.url}/ready").json()["standby"] is False


def test_ctrl_c_of_the_first_hands_its_jobs_over_and_that_of_the_last_ends_all(
    pair: tuple[Service, Service],
) -> None:
    first, second = pair
    # Long enough to be still at it when both have left, one after the other.
    job = make_job(first, epochs=3 * EPOCHS)
    until_step(second, job, 10)
    trainer = second.trainer(job.id)

    assert first.end() == 0
    assert trainer.is_running()
    until_step(second, job, 20)
    assert second.end() == 0

    assert second.ray_processes() == []
    assert second.trainers(job.id) == []
    second.start()
    assert second.wait(job.id).status == "succeeded"
    assert (second.data / "runs" / job.id / "attempt").read_text() == "2"


def test_ctrl_c_of_the_one_that_stands_by_disturbs_nothing(pair: tuple[Service, Service]) -> None:
    first, second = pair
    job = make_job(second, epochs=EPOCHS)
    until_step(first, job, 10)

    assert second.end() == 0

    assert first.wait(job.id).status == "succeeded"
    assert (first.data / "runs" / job.id / "attempt").read_text() == "1"


def test_a_leader_that_stands_still_is_replaced_and_changes_nothing_when_it_wakes_up(
    pair: tuple[Service, Service],
) -> None:
    first, second = pair
    job = make_job(second, epochs=EPOCHS)
    until_step(second, job, 10)
    leader, frozen = holder(first, CONTROLLER), first.controller()

    frozen.suspend()
    assert until_another_leads(second, leader) < MOST
    until_step(second, job, 20)
    frozen.resume()

    # It finds itself replaced and ends; the one that is started in its place stands by.
    assert frozen.wait(20) is None
    until(lambda: holder(first, STANDBY), 20)
    assert second.wait(job.id).status == "succeeded"
    assert second.steps(job.id) == list(range(1, STEPS + 1))
    assert (second.data / "runs" / job.id / "attempt").read_text() == "1"
