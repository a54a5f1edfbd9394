"""A creation that is sent again with the same `Idempotency-Key` creates no second job."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import openai
import pytest
from starlette.testclient import TestClient

from tunesmith.domain.idempotency import IdempotencyKey

JOBS = "/v1/fine_tuning/jobs"
Post = Callable[..., Any]


@pytest.fixture
def body(upload: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return {"model": "org/tiny-llama", "training_file": upload()["id"], "seed": 1}


@pytest.fixture
def post(http: TestClient, body: dict[str, Any]) -> Post:
    def send(key: str, **changed: Any) -> Any:
        return http.post(JOBS, json=body | changed, headers={"Idempotency-Key": key})

    return send


def test_the_same_request_answers_with_the_first_ones_job_as_it_is_by_then(
    post: Post, http: TestClient, body: dict[str, Any]
) -> None:
    first = post("k")
    assert "Idempotency-Replayed" not in first.headers
    http.post(f"{JOBS}/{first.json()['id']}/cancel")
    http.delete(f"/v1/files/{body['training_file']}")
    again = post("k")
    assert again.status_code == 200
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (again.json()["id"], again.json()["status"]) == (first.json()["id"], "cancelled")
    assert len(http.get(JOBS).json()["data"]) == 1


def test_the_order_of_the_bodys_keys_does_not_matter(
    post: Post, http: TestClient, body: dict[str, Any]
) -> None:
    turned = dict(reversed(body.items()))
    again = http.post(JOBS, json=turned, headers={"Idempotency-Key": "k"})
    assert post("k").json() == again.json()


def test_the_key_with_another_request_is_refused_with_the_first_ones_job(post: Post) -> None:
    first = post("k").json()["id"]
    refused = post("k", seed=2)
    assert refused.status_code == 422
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == ("idempotency_key_reused", "Idempotency-Key")
    assert first in error["message"]


def test_a_refused_request_leaves_its_key_free(post: Post) -> None:
    assert post("k", seed=-1).status_code == 400
    assert post("k").status_code == 200


def test_another_key_or_none_makes_another_job(
    post: Post, http: TestClient, body: dict[str, Any]
) -> None:
    ids = {post("k").json()["id"], post("l").json()["id"]}
    ids |= {http.post(JOBS, json=body).json()["id"] for _ in range(2)}
    assert len(ids) == 4


def test_a_key_is_forgotten_after_a_day(post: Post, world: Any) -> None:
    first = post("k").json()["id"]
    world.clock.advance(24 * 3600 - 1)
    assert post("k").json()["id"] == first
    assert world.store.drop_idempotency_keys() == 0
    world.clock.advance(1)
    assert post("k", seed=2).json()["id"] != first
    world.clock.advance(24 * 3600)
    assert world.store.drop_idempotency_keys() == 1


@pytest.mark.parametrize("key", ["", "a" * 256, "a b", "tab\there"])
def test_what_can_be_no_key_is_refused(post: Post, key: str) -> None:
    answer = post(key)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "Idempotency-Key"


def test_requests_at_the_same_time_create_one_job(post: Post, http: TestClient) -> None:
    begun = threading.Barrier(4)
    ids: list[str] = []

    def send() -> None:
        begun.wait()
        ids.append(post("k").json()["id"])

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 4
    assert len(set(ids)) == len(http.get(JOBS).json()["data"]) == 1


def test_one_projects_key_is_not_anothers(post: Post, world: Any, upload: Post) -> None:
    first = post("k").json()["id"]
    theirs = world.store.within("theirs")
    file = world.store.file(world.store.job(first).training_file)
    theirs.add_file(file.model_copy(update={"id": "file-theirs"}))
    changed = {"id": "ftjob-theirs", "training_file": "file-theirs"}
    job = world.store.job(first).model_copy(update=changed)
    key = IdempotencyKey(key="k", request="other")
    assert theirs.job_of_key(key) is None
    assert theirs.add_job(job, key=key).id == "ftjob-theirs"


def test_the_official_client_sends_a_key_where_it_is_given_one(
    client: openai.OpenAI, body: dict[str, Any]
) -> None:
    headers = {"Idempotency-Key": "k"}
    raw = client.fine_tuning.jobs.with_raw_response
    first = raw.create(**body, extra_headers=headers)
    again = raw.create(**body, extra_headers=headers)
    assert first.parse().id == again.parse().id
    assert again.headers["Idempotency-Replayed"] == "true"
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        raw.create(**body | {"seed": 2}, extra_headers=headers)
    assert refused.value.code == "idempotency_key_reused"


def test_the_official_client_sends_none_by_itself(client: openai.OpenAI, body: Any) -> None:
    first, second = (client.fine_tuning.jobs.create(**body) for _ in range(2))
    assert first.id != second.id
