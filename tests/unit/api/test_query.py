"""No key of a query is passed over, and jobs are listed by their labels."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from starlette.testclient import TestClient

JOBS = "/v1/fine_tuning/jobs"


@pytest.fixture
def labelled(client: openai.OpenAI) -> dict[str, str]:
    """Make jobs with labels, and one without; return their ids by a short name."""
    file = client.files.create(file=("train.jsonl", b"{}\n"), purpose="fine-tune")
    wanted: dict[str, Any] = {
        "blue": {"team": "blue", "a]b[": "\u00e9"},
        "red": {"team": "red"},
        "none": None,
        "empty": {},
    }
    return {
        name: client.fine_tuning.jobs.create(
            model="org/tiny-llama", training_file=file.id, metadata=metadata
        ).id
        for name, metadata in wanted.items()
    }


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        ({"team": "blue"}, ["blue"]),
        ({"team": "red"}, ["red"]),
        ({"a]b[": "\u00e9"}, ["blue"]),
        ({"team": "blue", "cost": "1"}, []),
        ({"team": "green"}, []),
        ({}, ["empty", "none", "red", "blue"]),
    ],
)
def test_jobs_are_listed_by_their_labels(
    client: openai.OpenAI, labelled: dict[str, str], metadata: dict[str, str], names: list[str]
) -> None:
    found = client.fine_tuning.jobs.list(metadata=metadata, limit=1)
    assert [job.id for job in found] == [labelled[name] for name in names]


def test_jobs_without_labels_are_listed(http: TestClient, labelled: dict[str, str]) -> None:
    found = http.get(JOBS, params={"metadata": "null"}).json()["data"]
    assert [job["id"] for job in found] == [labelled["empty"], labelled["none"]]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("metadata=blue", "metadata"),
        ("metadata[team]=blue&metadata[team]=red", "metadata[team]"),
        ("limit=5&limit=6", "limit"),
        ("metadata=null&metadata[team]=red", "metadata"),
        ("metadata[team", "metadata[team"),
        ("status=running", "status"),
        ("limit[x]=1", "limit[x]"),
    ],
)
def test_a_filter_that_is_not_understood_is_refused(
    http: TestClient, query: str, param: str
) -> None:
    answer = http.get(f"{JOBS}?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("method", "path", "known"),
    [
        ("GET", "/v1/files", "'after', 'limit', 'order', 'purpose'"),
        ("POST", "/v1/files", "none"),
        ("GET", JOBS, "'after', 'limit', 'metadata'"),
        ("GET", f"{JOBS}/ftjob-x", "none"),
        ("GET", f"{JOBS}/ftjob-x/events", "'after', 'limit'"),
        ("POST", f"{JOBS}/ftjob-x/cancel", "none"),
        ("GET", "/v1/models", "none"),
        ("DELETE", "/v1/models/m", "none"),
    ],
)
def test_an_unknown_key_is_refused_with_the_known_ones(
    http: TestClient, method: str, path: str, known: str
) -> None:
    answer = http.request(method, f"{path}?colour=red&limit=5")
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == ("colour", "unknown_key")
    assert (
        f"'colour' is no known key of this query; the known ones are: {known}." in error["message"]
    )


def test_opeas_own_routes_refuse_an_unknown_key_in_their_own_shape(http: TestClient) -> None:
    answer = http.post(f"{JOBS}/retrieve?colour=red", json={"fine_tuning_job_id": "x"})
    assert answer.status_code == 422
    assert "'colour' is no known key" in answer.json()["detail"]
