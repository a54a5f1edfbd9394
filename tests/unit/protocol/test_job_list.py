"""A list of jobs as JSON: each in its own dialect's shape, and each as it is now."""

from __future__ import annotations

import json

from tunesmith.domain.ids import Dialect
from tunesmith.domain.jobs import Job, JobStatus
from tunesmith.domain.spec import JobRequest
from tunesmith.domain.values import Page
from tunesmith.protocol.dialects import JobList, job_to_wire, jobs_to_json


def job(name: str, *, status: JobStatus, dialect: Dialect = Dialect.OPENAI) -> Job:
    return Job(
        id=f"ftjob-{name}",
        dialect=dialect,
        created_at=1,
        status=status,
        model="tiny",
        training_file="file-a",
        training_filename="träin.jsonl",
        request=JobRequest(),
        seed=1,
        organization="acme",
    )


def listed(*jobs: Job, has_more: bool = False) -> str:
    return jobs_to_json(Page(items=jobs, has_more=has_more), {})


def test_it_is_what_the_shape_of_a_list_would_be() -> None:
    jobs = (
        job("1", status=JobStatus.RUNNING),
        job("2", status=JobStatus.SUCCEEDED, dialect=Dialect.OPEA),
        job("3", status=JobStatus.FAILED),
    )
    shape = JobList(data=[job_to_wire(one) for one in jobs], has_more=True)
    assert listed(*jobs, has_more=True) == shape.model_dump_json()
    assert json.loads(listed()) == {"object": "list", "data": [], "has_more": False}


def test_what_is_remembered_of_a_job_is_never_told_of_another() -> None:
    told = set()
    for number in range(6_000):
        ended = job(str(number), status=JobStatus.CANCELLED)
        again = [json.loads(listed(ended))["data"][0]["id"] for _ in range(2)]
        assert again == [ended.id, ended.id]
        told.add(again[0])
    assert len(told) == 6_000
