"""What Prometheus is told, and who may hear it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from tunesmith.api.app import create_app
from tunesmith.domain.jobs import JobChange, JobStatus
from tunesmith.domain.keys import Scope, new_key
from tunesmith.domain.liveness import CONTROLLER, SignOfLife

TOKEN = "a-token-of-some-length"
JOBS = "/v1/fine_tuning/jobs"


def samples(http: TestClient, **headers: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return each sample by its name and its labels' values, sorted by the labels' names."""
    answer = http.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(text for _, text in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_requests_are_counted_by_their_routes_template(
    http: TestClient, upload: Callable[..., dict[str, Any]]
) -> None:
    file = upload()
    before = samples(http)
    http.get(f"/v1/files/{file['id']}")
    http.get("/v1/files/file-absent")
    http.get("/nowhere/at/all")
    http.request("BREW", "/v1/files")
    after = samples(http)

    def more(name: str, *labels: str) -> float:
        return after.get((name, labels), 0) - before.get((name, labels), 0)

    counter, route = "tunesmith_http_requests_total", "/v1/files/{file_id}"
    assert more(counter, "GET", route, "200") == 1
    assert more(counter, "GET", route, "404") == 1
    assert more(counter, "GET", "none", "404") == 1
    assert more(counter, "other", "/v1/files", "405") == 1
    assert more("tunesmith_http_request_seconds_count", "GET", route) == 2
    assert after["tunesmith_http_requests_in_flight", ()] == 1
    assert not [labels for _, labels in after if file["id"] in labels]


def test_jobs_and_the_last_step_of_the_running_ones_are_told(
    http: TestClient, world: Any, upload: Callable[..., dict[str, Any]]
) -> None:
    body = {"model": "smollm2-135m-instruct", "training_file": upload()["id"]}
    running, ended = (http.post(JOBS, json=body).json()["id"] for _ in range(2))
    world.run(running)
    world.run(ended)
    world.finish(ended)

    found = samples(http)
    assert found["tunesmith_jobs", ("running",)] == 1
    assert found["tunesmith_jobs", ("succeeded",)] == 1
    assert found["tunesmith_jobs", ("failed",)] == 0
    for name, value in {
        "step": 10,
        "steps": 10,
        "train_loss": 0.5,
        "valid_loss": 0.625,
        "tokens_per_second": 100,
    }.items():
        assert found[f"tunesmith_job_{name}", (running, "default")] == value
    # An ended job has no series, so that there are not more of them with each job.
    assert not [labels for _, labels in found if ended in labels]


def test_the_wait_of_the_queues_head_grows(
    http: TestClient, world: Any, upload: Callable[..., dict[str, Any]]
) -> None:
    assert samples(http)["tunesmith_queue_head_wait_seconds", ()] == 0
    body = {"model": "smollm2-135m-instruct", "training_file": upload()["id"]}
    job = http.post(JOBS, json=body).json()["id"]
    world.store.change_job(world.store.job(job), JobChange(status=JobStatus.QUEUED))
    world.clock.advance(90)
    found = samples(http)
    assert found["tunesmith_queue_depth", ()] == 1
    assert found["tunesmith_queue_head_wait_seconds", ()] == 90


def test_what_the_cluster_has_and_what_of_it_is_held_is_told(http: TestClient, world: Any) -> None:
    assert samples(http)["tunesmith_cluster_up", ()] == 0
    world.store.give_sign(
        SignOfLife(
            process=CONTROLLER,
            at=int(world.clock.now()),
            cluster_up=True,
            there={"CPU": 8, "memory": 2**30, "HPU": 8},
            held={"CPU": 2, "memory": 0, "HPU": 1},
        )
    )
    world.clock.advance(3)
    found = samples(http)
    assert found["tunesmith_cluster_up", ()] == 1
    assert found["tunesmith_controller_sign_age_seconds", ()] == 3
    assert found["tunesmith_cluster_resources_there", ("HPU",)] == 8
    assert found["tunesmith_cluster_resources_held", ("HPU",)] == 1
    assert found["tunesmith_cluster_resources_there", ("memory",)] == 2**30


def test_calls_to_the_store_are_measured(http: TestClient) -> None:
    name = "tunesmith_store_transaction_seconds_count"
    before = samples(http)
    http.get("/v1/files")
    after = samples(http)
    assert after[name, ("read",)] > before[name, ("read",)]


def test_a_database_that_is_silent_is_told_and_the_rest_as_well(
    http: TestClient, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert samples(http)["tunesmith_store_up", ()] == 1

    def fail() -> None:
        raise RuntimeError("no database")

    monkeypatch.setattr(http.app.state.services.store, "figures", fail)  # type: ignore[attr-defined]
    found = samples(http)
    assert found["tunesmith_store_up", ()] == 0
    assert ("tunesmith_queue_depth", ()) not in found
    assert ("tunesmith_http_requests_in_flight", ()) in found


def test_a_service_with_a_token_tells_only_who_shows_it(world: Any) -> None:
    services = replace(world.services, metrics_token=TOKEN)
    with TestClient(create_app(services)) as http:
        assert samples(http, Authorization=f"Bearer {TOKEN}")
        for header in ({}, {"Authorization": "Bearer other"}, {"Authorization": TOKEN}):
            answer = http.get("/metrics", headers=header)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "metrics_refused"
            assert answer.headers["www-authenticate"] == "Bearer"
        # The token opens nothing else.
        world.store.add_key(new_key("p", "k", scope=Scope.ADMIN, now=0, expires_at=None)[1])
        http.app.state.doorkeeper._known = None  # type: ignore[attr-defined]
        other = http.get("/v1/files", headers={"Authorization": f"Bearer {TOKEN}"})
        assert other.status_code == 401


def test_without_a_token_only_a_service_without_keys_tells(world: Any, http: TestClient) -> None:
    assert samples(http)
    secret, key = new_key("p", "k", scope=Scope.ADMIN, now=0, expires_at=None)
    world.store.add_key(key)
    world.clock.advance(5)
    answer = http.get("/metrics", headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code == 401
    assert "metrics_token" in answer.json()["error"]["message"]


def test_no_page_of_another_site_reads_the_metrics_of_an_open_service(world: Any) -> None:
    services = replace(world.services, own_names=frozenset({"testserver"}))
    with TestClient(create_app(services)) as http:
        assert samples(http)
        assert http.get("/metrics", headers={"Host": "evil.example"}).status_code == 403
        assert http.get("/metrics", headers={"Origin": "http://evil.example"}).status_code == 403
