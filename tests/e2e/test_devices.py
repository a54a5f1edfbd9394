"""Jobs on devices beside the processors, as the official client asks for them.

The node has two Gaudis, for which the stand-in of `tests/gaudi` stands: Ray counts them, and torch
computes on them.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from e2e.conftest import new_data
from e2e.service import STEPS, Service, make_job, running, until

STAND_IN = Path(__file__).parents[1] / "gaudi"

pytestmark = pytest.mark.skipif(
    shutil.which("c++") is None or shutil.which("ninja") is None,
    reason="the stand-in for Gaudi is compiled, for which there is no C++ compiler or no ninja",
)


@pytest.fixture(scope="module")
def gaudis(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Service]:
    data = new_data(tmp_path_factory.mktemp("gaudis"), tiny_model)
    with running(data, {"PYTHONPATH": str(STAND_IN), "TUNESMITH_DEVICE": "hpu"}) as service:
        yield service


def told(service: Service, job_id: str, words: str) -> list[str]:
    events = service.client.fine_tuning.jobs.list_events(job_id, limit=100)
    return [event.message for event in events if words in event.message]


@pytest.mark.timeout(900)
def test_a_job_on_two_of_them_outlives_one_of_its_workers(gaudis: Service) -> None:
    job = make_job(gaudis, tuning={"workers": 2, "cpus": 1})

    until(lambda: len(gaudis.steps(job.id)) >= 40, 300)
    (started,) = told(gaudis, job.id, "Training started")
    found = re.search(
        r"on 2 workers with hpu:0 \(stand-in\) .* rank 1 of \S+ \(process (\d+)\)", started
    )
    assert found

    psutil.Process(int(found[1])).kill()

    done = gaudis.wait(job.id, seconds=400)
    assert done.status == "succeeded", done.error
    assert done.model_dump()["tuning"]["device"] == "hpu"
    assert done.model_dump()["tuning"]["workers"] == 2
    assert gaudis.steps(job.id) == list(range(1, STEPS + 1))
    assert len(told(gaudis, job.id, "Rank 1 of")) == 1
    assert len(told(gaudis, job.id, "A worker of attempt 1 died. The job goes on")) == 1
    assert len(told(gaudis, job.id, "Resumed from the checkpoint")) == 1


def test_a_job_on_one_of_them_says_so(gaudis: Service) -> None:
    job = make_job(gaudis, epochs=1)

    assert gaudis.wait(job.id).status == "succeeded"
    assert told(gaudis, job.id, "Training started (attempt 1) on hpu:0 (stand-in) and 1 threads")


def test_processors_are_there_for_who_asks_for_them(gaudis: Service) -> None:
    job = make_job(gaudis, epochs=1, tuning={"device": "cpu"})

    assert gaudis.wait(job.id).status == "succeeded"
    assert told(gaudis, job.id, "Training started (attempt 1) on 1 threads")


@pytest.mark.parametrize("device", ["cuda", "xpu"])
def test_a_device_that_no_node_has_is_refused_at_once(gaudis: Service, device: str) -> None:
    job = make_job(gaudis, tuning={"device": device})

    done = gaudis.wait(job.id)

    assert done.status == "failed"
    assert done.error is not None
    assert done.error.code == "resources_unavailable"
    assert done.error.param == "tuning.device"
    assert "2 HPU" in done.error.message
