"""Webhook endpoints, as the official client manages them, and the log of their deliveries."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from starlette.testclient import TestClient

from tunesmith.api import webhooks
from tunesmith.domain.webhooks import Attempt, Delivery, WebhookEvent

ENDPOINTS = "/v1/webhook_endpoints"
BOTH = ["fine_tuning.job.succeeded", "fine_tuning.job.failed"]


@pytest.fixture
def endpoint(client: openai.OpenAI) -> Any:
    return client.webhooks.create(
        name="ci",
        url="https://ci.example/hook?a=1",
        event_types=["fine_tuning.job.succeeded", "fine_tuning.job.cancelled"],
    )


@pytest.fixture
def job(client: openai.OpenAI) -> Any:
    file = client.files.create(file=("train.jsonl", b"{}\n"), purpose="fine-tune")
    return client.fine_tuning.jobs.create(model="smollm2-135m-instruct", training_file=file.id)


def deliveries(http: TestClient, endpoint_id: str, query: str = "") -> dict[str, Any]:
    answer = http.get(f"{ENDPOINTS}/{endpoint_id}/deliveries{query}")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_an_endpoint_is_created_listed_retrieved_updated_and_deleted(
    client: openai.OpenAI, endpoint: Any
) -> None:
    assert endpoint.id.startswith("we_")
    assert endpoint.signing_secret.startswith("whsec_")
    assert (endpoint.object, endpoint.name) == ("webhook_endpoint", "ci")
    assert endpoint.url == "https://ci.example/hook?a=1"
    assert endpoint.event_types == ["fine_tuning.job.succeeded", "fine_tuning.job.cancelled"]
    assert [each.id for each in client.webhooks.list(limit=1)] == [endpoint.id]
    updated = client.webhooks.update(endpoint.id, event_types=BOTH, name="new")  # type: ignore[arg-type]
    assert (updated.event_types, updated.name, updated.url) == (BOTH, "new", endpoint.url)
    assert client.webhooks.retrieve(endpoint.id) == updated
    gone = client.webhooks.delete(endpoint.id)
    assert (gone.object, gone.deleted) == ("webhook_endpoint.deleted", True)
    with pytest.raises(openai.NotFoundError, match=endpoint.id):
        client.webhooks.retrieve(endpoint.id)


def test_the_event_types_are_those_of_jobs(client: openai.OpenAI) -> None:
    assert client.webhooks.event_types.list().data == [each.value for each in WebhookEvent]


def test_a_secret_is_shown_when_it_is_made_and_never_again(
    client: openai.OpenAI, http: TestClient, endpoint: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        rotated = client.webhooks.rotate_secret(
            endpoint.id, keep_old_secret_active_for_24_hours=True
        )
        shown = [
            http.get(ENDPOINTS).text,
            http.get(f"{ENDPOINTS}/{endpoint.id}").text,
            http.post(f"{ENDPOINTS}/{endpoint.id}", json={"name": "x"}).text,
            http.get(f"{ENDPOINTS}/{endpoint.id}/deliveries").text,
        ]
    assert rotated.signing_secret != endpoint.signing_secret
    for secret in (rotated.signing_secret, endpoint.signing_secret):
        assert not [text for text in (*shown, caplog.text) if secret in text]
    assert rotated.signing_secret_hint == f"whsec_…{rotated.signing_secret[-4:]}"


def test_a_rotated_secret_replaces_the_old_one_at_once_or_in_a_day(
    client: openai.OpenAI, world: Any, endpoint: Any
) -> None:
    client.webhooks.rotate_secret(endpoint.id, keep_old_secret_active_for_24_hours=True)
    kept = world.store.endpoint(endpoint.id)
    assert kept.old_secret == endpoint.signing_secret
    assert kept.old_secret_until == int(world.clock.now()) + 24 * 3600
    client.webhooks.rotate_secret(endpoint.id)
    assert world.store.endpoint(endpoint.id).old_secret is None


def test_the_end_of_a_job_is_in_the_log_with_what_became_of_its_delivery(
    client: openai.OpenAI, http: TestClient, world: Any, endpoint: Any, job: Any
) -> None:
    client.fine_tuning.jobs.cancel(job.id)
    [waiting] = deliveries(http, endpoint.id)["data"]
    assert waiting["status"] == "pending"
    assert waiting["event_type"] == "fine_tuning.job.cancelled"
    assert waiting["fine_tuning_job_id"] == job.id
    assert waiting["next_attempt_at"] == int(world.clock.now())

    world.store.record_attempt(waiting["id"], Attempt(at=9, status_code=200))

    [done] = deliveries(http, endpoint.id)["data"]
    assert (done["status"], done["delivered_at"], done["next_attempt_at"]) == ("delivered", 9, None)


def test_an_end_that_the_endpoint_did_not_ask_for_is_not_in_the_log(
    client: openai.OpenAI, http: TestClient, endpoint: Any, job: Any
) -> None:
    client.webhooks.update(endpoint.id, event_types=BOTH)  # type: ignore[arg-type]
    client.fine_tuning.jobs.cancel(job.id)
    assert deliveries(http, endpoint.id)["data"] == []


def test_the_log_is_paged_newest_first(
    client: openai.OpenAI, http: TestClient, endpoint: Any
) -> None:
    file = client.files.create(file=("train.jsonl", b"{}\n"), purpose="fine-tune")
    jobs = []
    for _ in range(3):
        made = client.fine_tuning.jobs.create(model="smollm2-135m-instruct", training_file=file.id)
        jobs.append(client.fine_tuning.jobs.cancel(made.id).id)
    first = deliveries(http, endpoint.id, "?limit=2")
    rest = deliveries(http, endpoint.id, f"?limit=2&after={first['last_id']}")
    told = [each["fine_tuning_job_id"] for each in first["data"] + rest["data"]]
    assert told == jobs[::-1]
    assert (first["has_more"], rest["has_more"]) == (True, False)


def test_a_delivery_can_be_sent_again(
    client: openai.OpenAI, http: TestClient, world: Any, endpoint: Any, job: Any
) -> None:
    client.fine_tuning.jobs.cancel(job.id)
    [waiting] = deliveries(http, endpoint.id)["data"]
    world.store.record_attempt(waiting["id"], Attempt(at=9, status_code=200))
    world.clock.advance(100)

    again = http.post(f"{ENDPOINTS}/{endpoint.id}/deliveries/{waiting['id']}/retry").json()

    assert (again["id"], again["status"], again["attempts"]) == (waiting["id"], "pending", 0)
    assert again["next_attempt_at"] == int(world.clock.now())
    unknown = http.post(f"{ENDPOINTS}/{endpoint.id}/deliveries/wh_x/retry")
    assert unknown.status_code == 404


def test_an_endpoint_that_was_gone_is_enabled_again_by_an_update(
    client: openai.OpenAI, http: TestClient, world: Any, endpoint: Any, job: Any
) -> None:
    client.fine_tuning.jobs.cancel(job.id)
    [waiting] = deliveries(http, endpoint.id)["data"]
    world.store.record_attempt(waiting["id"], Attempt(at=9, status_code=410))
    assert http.get(f"{ENDPOINTS}/{endpoint.id}").json()["enabled"] is False
    assert http.post(f"{ENDPOINTS}/{endpoint.id}", json={}).json()["enabled"] is True


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("ftp://x.example/", "'http' or 'https'"),
        ("https://", "'http' or 'https' and a host"),
        ("http://[::1", "must be a URL"),
        ("http://x.example:99999/", "must be a URL"),
        ("https://me:pass@x.example/", "user or a password"),
        ("https://x.example/#part", "fragment"),
        ("https://x.example/a b", "printable ASCII"),
        ("https://x.example/é", "printable ASCII"),
        ("http://169.254.169.254/latest", "metadata address."),
        ("http://[::ffff:169.254.169.254]/", "metadata address"),
        ("https://x.example/" + "a" * 2048, "at most 2048"),
    ],
)
def test_a_url_that_nothing_can_be_posted_to_is_refused_with_why(
    http: TestClient, url: str, fault: str
) -> None:
    answer = http.post(ENDPOINTS, json={"name": "n", "url": url, "event_types": BOTH})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "url"
    assert fault in answer.json()["error"]["message"]
    assert "me:pass" not in answer.text


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"event_types": []}, "event_types"),
        ({"event_types": ["batch.completed"]}, "event_types.0"),
        ({"event_types": BOTH[:1] * 2}, "event_types"),
        ({"name": ""}, "name"),
        ({"secret": "whsec_mine"}, "secret"),
    ],
)
def test_a_bad_endpoint_is_refused_at_its_key(
    http: TestClient, change: dict[str, Any], param: str
) -> None:
    body = {"name": "n", "url": "https://x.example/", "event_types": BOTH} | change
    answer = http.post(ENDPOINTS, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_project_has_at_most_20_endpoints(http: TestClient) -> None:
    body = {"name": "n", "url": "https://x.example/", "event_types": BOTH}
    for _ in range(20):
        assert http.post(ENDPOINTS, json=body).status_code == 200
    refused = http.post(ENDPOINTS, json=body)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "insufficient_quota"


@contextmanager
def posting(world: Any, attempt: Attempt) -> Iterator[Callable[[], Delivery]]:
    """A controller to which `attempt` happens when it posts the next delivery."""

    def post() -> Delivery:
        end = time.monotonic() + 10
        while not (due := world.store.due_deliveries(busy=(), limit=1)):
            assert time.monotonic() < end, "nothing is to be posted"
            time.sleep(0.01)
        done: Delivery = world.store.record_attempt(due[0][1].id, attempt)
        return done

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(post).result


@pytest.mark.parametrize("status", [204, 500])
def test_a_sample_is_posted_once_and_the_status_of_the_answer_told(
    client: openai.OpenAI, http: TestClient, world: Any, endpoint: Any, status: int
) -> None:
    with posting(world, Attempt(at=9, status_code=status)) as posted:
        told = client.webhooks.test(endpoint.id, event_type="fine_tuning.job.failed")

    assert (told.object, told.success) == ("webhook_endpoint.test", True)
    assert (told.webhook_endpoint_id, told.event_type) == (endpoint.id, "fine_tuning.job.failed")
    assert told.status_code == status
    assert (posted().job_id, posted().next_attempt_at) == (None, None)
    [logged] = deliveries(http, endpoint.id)["data"]
    assert logged["status"] == ("delivered" if status == 204 else "failed")


def test_a_sample_that_nobody_answers_is_an_error_that_says_why(
    client: openai.OpenAI, world: Any, endpoint: Any
) -> None:
    with (
        posting(world, Attempt(at=9, error="Connection refused.")),
        pytest.raises(openai.BadRequestError, match="Connection refused") as refused,
    ):
        client.webhooks.test(endpoint.id, event_type="fine_tuning.job.failed")
    assert refused.value.code == "webhook_did_not_answer"


def test_a_sample_that_nobody_posts_is_not_waited_for_for_ever(
    client: openai.OpenAI, endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "PATIENCE", 0.0)
    with pytest.raises(openai.BadRequestError, match="still waits to be posted"):
        client.webhooks.test(endpoint.id, event_type="fine_tuning.job.failed")
