"""Deliveries to a real server: signed as the official client expects, and tried until taken."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import openai
import pytest

from tunesmith.controller import webhooks
from tunesmith.controller.doors import Doors
from tunesmith.controller.sweep import DELIVERY_AGE, sweep
from tunesmith.controller.webhooks import keep_delivering, open_courier
from tunesmith.domain.clock import FakeClock
from tunesmith.domain.ids import new_endpoint_id
from tunesmith.domain.jobs import Job
from tunesmith.domain.webhooks import (
    MOST_ATTEMPTS,
    Delivery,
    WebhookEndpoint,
    WebhookEvent,
    new_secret,
)
from unit.controller.world import World


@dataclass
class Receiver:
    """A server that notes what it is sent and answers as it is told, in turn; then 204."""

    answers: list[int] = field(default_factory=list)
    hangs: threading.Event | None = None
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    told = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            told.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
            if told.hangs:
                told.hangs.wait(20)
            self.send_response(told.answers.pop(0) if told.answers else 204)
            self.send_header("location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    told.url = f"http://localhost:{server.server_port}/hook"
    yield told
    if told.hangs:
        told.hangs.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def world() -> World:
    # Receivers compare a signature's time with their own clock.
    return World(clock=FakeClock(time.time()))


def doors(world: World) -> Doors:
    return Doors(
        store=world.store, cluster=world.cluster, artifacts=world.artifacts, clock=world.clock
    )


def add_endpoint(world: World, url: str, **fields: Any) -> WebhookEndpoint:
    given: dict[str, Any] = {"event_types": tuple(WebhookEvent), "secret": new_secret(), **fields}
    endpoint = WebhookEndpoint(
        id=new_endpoint_id(), created_at=0, updated_at=0, name="n", url=url, **given
    )
    world.store.add_endpoint(endpoint)
    return endpoint


def cancelled_job(world: World) -> Job:
    job = world.add_job()
    return world.store.cancel_job(job.id, now=int(world.clock.now()))


def deliver(world: World) -> None:
    """Post all that is due now."""

    async def once() -> None:
        async with open_courier(doors(world)) as courier:
            await courier.begin_due()
            while courier._posting:
                await courier.settle()
                await courier.begin_due()

    asyncio.run(once())


def deliveries(world: World, endpoint: WebhookEndpoint) -> list[Delivery]:
    return list(world.store.list_deliveries(endpoint.id, after=None, limit=100).items)


def unwrap(secret: str, message: tuple[dict[str, str], bytes]) -> Any:
    client = openai.OpenAI(api_key="unused", webhook_secret=secret)
    return client.webhooks.unwrap(message[1], message[0])


def test_a_delivery_fails_first_and_is_then_taken_as_the_official_client_expects(
    world: World, receiver: Receiver
) -> None:
    receiver.answers = [500, 503]
    endpoint = add_endpoint(world, receiver.url)
    job = cancelled_job(world)

    deliver(world)
    (waiting,) = deliveries(world, endpoint)
    assert (waiting.status, waiting.attempts, waiting.status_code) == ("pending", 1, 500)
    deliver(world)
    assert len(receiver.got) == 1, "it is not due yet"
    for seconds in (6, 30):
        world.clock.advance(seconds)
        deliver(world)

    (done,) = deliveries(world, endpoint)
    assert (done.status, done.attempts, done.status_code) == ("delivered", 3, 204)
    assert done.delivered_at == int(world.clock.now())
    for message in receiver.got:
        event = unwrap(endpoint.secret, message)
        assert (event.type, event.data.id) == ("fine_tuning.job.cancelled", job.id)
        assert (event.object, event.created_at) == ("event", job.finished_at)
        assert message[0]["webhook-id"] == done.id
    assert len({body for _, body in receiver.got}) == 1
    assert event.id == done.event_id


def test_a_wrong_secret_does_not_verify(world: World, receiver: Receiver) -> None:
    add_endpoint(world, receiver.url)
    cancelled_job(world)
    deliver(world)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        unwrap(new_secret(), receiver.got[0])


def test_a_kept_old_secret_signs_as_well_until_its_day_is_over(
    world: World, receiver: Receiver
) -> None:
    old, now = new_secret(), int(world.clock.now())
    endpoint = add_endpoint(world, receiver.url, old_secret=old, old_secret_until=now + 60)
    cancelled_job(world)
    deliver(world)
    assert unwrap(old, receiver.got[0]).type == "fine_tuning.job.cancelled"
    assert unwrap(endpoint.secret, receiver.got[0]).type == "fine_tuning.job.cancelled"

    world.clock.advance(61)
    cancelled_job(world)
    deliver(world)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        unwrap(old, receiver.got[1])


def test_a_delivery_is_given_up_after_about_a_day(world: World) -> None:
    endpoint = add_endpoint(world, "http://127.0.0.1:1/refused")
    cancelled_job(world)
    began = world.clock.now()
    while (one := deliveries(world, endpoint)[0]).next_attempt_at is not None:
        world.clock.advance(max(0, one.next_attempt_at - world.clock.now()))
        deliver(world)

    assert (one.status, one.attempts) == ("failed", MOST_ATTEMPTS)
    assert 18 < (world.clock.now() - began) / 3600 < 30
    assert one.error is not None
    assert one.status_code is None


def test_an_endpoint_that_is_gone_is_told_nothing_more(world: World, receiver: Receiver) -> None:
    receiver.answers = [410]
    endpoint = add_endpoint(world, receiver.url)
    for _ in range(2):
        cancelled_job(world)
    deliver(world)
    cancelled_job(world)
    deliver(world)

    assert len(receiver.got) == 1
    assert not world.store.endpoint(endpoint.id).enabled
    assert [each.status for each in deliveries(world, endpoint)] == ["failed", "failed"]


def test_a_redirect_is_not_followed(world: World, receiver: Receiver) -> None:
    receiver.answers = [302]
    endpoint = add_endpoint(world, receiver.url)
    cancelled_job(world)
    deliver(world)
    (waiting,) = deliveries(world, endpoint)
    assert waiting.status == "pending"
    assert waiting.error == "The endpoint answered 302. Redirects are not followed."


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fe80::1%eth0", "::ffff:169.254.169.254", "0.0.0.0"]
)
def test_a_name_that_leads_to_a_machines_credentials_is_refused_when_it_is_looked_up(
    world: World, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    async def look_up(*_: object, **__: object) -> list[Any]:
        return [(2, 1, 6, "", ("127.0.0.1", 80)), (2, 1, 6, "", (address, 80))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", look_up)
    endpoint = add_endpoint(world, "http://innocent.example/hook")
    cancelled_job(world)
    deliver(world)
    (waiting,) = deliveries(world, endpoint)
    assert waiting.error is not None
    assert "metadata address" in waiting.error


def test_an_endpoint_that_hangs_is_given_up_and_holds_up_no_other(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "TIMEOUT", 0.5)
    receiver.hangs = threading.Event()
    hanging = add_endpoint(world, receiver.url)
    refused = add_endpoint(world, "http://127.0.0.1:1/")
    cancelled_job(world)
    deliver(world)
    assert deliveries(world, hanging)[0].error == "No answer within 0 s."
    assert deliveries(world, refused)[0].attempts == 1


def test_each_endpoint_is_told_of_its_own_projects_jobs_and_of_what_it_asked_for(
    world: World, receiver: Receiver
) -> None:
    wants_success = add_endpoint(
        world, receiver.url, event_types=(WebhookEvent.SUCCEEDED, WebhookEvent.FAILED)
    )
    theirs = add_endpoint(world, receiver.url, project="theirs")
    cancelled_job(world)
    assert deliveries(world, wants_success) == deliveries(world, theirs) == []


def test_what_waits_survives_a_new_start_and_a_deletion_ends_it(
    world: World, receiver: Receiver
) -> None:
    kept, deleted = add_endpoint(world, receiver.url), add_endpoint(world, receiver.url)
    cancelled_job(world)
    world.store.delete_endpoint(deleted.id)
    stop = threading.Event()
    thread = threading.Thread(target=keep_delivering, args=(doors(world), stop))
    thread.start()
    while deliveries(world, kept)[0].status != "delivered":
        time.sleep(0.01)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert len(receiver.got) == 1


def test_old_deliveries_are_swept(world: World, receiver: Receiver) -> None:
    endpoint = add_endpoint(world, receiver.url)
    cancelled_job(world)
    world.clock.advance(DELIVERY_AGE - 1)
    cancelled_job(world)
    world.clock.advance(2)
    sweep(doors(world))
    assert len(deliveries(world, endpoint)) == 1


def test_no_secret_is_written_to_the_log(
    world: World, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [500]
    endpoint = add_endpoint(world, receiver.url)
    cancelled_job(world)
    with caplog.at_level("DEBUG"):
        deliver(world)
    assert deliveries(world, endpoint)[0].id in caplog.text
    assert endpoint.secret not in caplog.text + repr(endpoint)
