"""A job on two workers, asked for by the official client, one of which is killed."""

from __future__ import annotations

import re

import psutil
import pytest

from e2e.service import STEPS, Service, make_job, until


@pytest.mark.timeout(900)
def test_a_job_on_two_workers_outlives_one_of_them(own_service: Service) -> None:
    service = own_service
    job = make_job(service, tuning={"workers": 2, "cpus": 1})

    def told(words: str) -> list[str]:
        events = service.client.fine_tuning.jobs.list_events(job.id, limit=100)
        return [event.message for event in events if words in event.message]

    until(lambda: len(service.steps(job.id)) >= 40, 300)
    (started,) = told("Training started")
    found = re.search(r"on 2 workers .* rank 1 of \S+ \(process (\d+)\)", started)
    assert found

    psutil.Process(int(found[1])).kill()

    done = service.wait(job.id, seconds=400)
    assert done.status == "succeeded", done.error
    assert done.model_dump()["tuning"]["workers"] == 2
    assert service.steps(job.id) == list(range(1, STEPS + 1))
    assert len(told("Rank 1 of")) == 1
    assert len(told("A worker of attempt 1 died. The job goes on")) == 1
    assert len(told("Resumed from the checkpoint")) == 1
