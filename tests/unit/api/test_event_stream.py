"""A job's events as a server-sent stream, over a real connection."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import uvicorn

from tunesmith.api.app import create_app
from tunesmith.api.event_stream import EventStreams
from tunesmith.domain.events import News, Told
from tunesmith.domain.jobs import JobChange, JobStatus
from tunesmith.domain.keys import Scope, new_key
from tunesmith.store.sql import SqlStore
from unit.api.conftest import World

JOBS = "/v1/fine_tuning/jobs"
STREAM = {"Accept": "text/event-stream"}


class Live:
    """The API behind a real port, with a quick pace."""

    def __init__(self, world: World, streams: EventStreams) -> None:
        self.streams = streams
        app = create_app(world.services)
        app.state.streams = streams
        config = uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=5)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)

    def __enter__(self) -> httpx.Client:
        self.thread.start()
        until(lambda: self.server.started)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)

    def __exit__(self, *_: object) -> None:
        self.streams.close()
        self.server.should_exit = True
        self.thread.join(10)
        assert not self.thread.is_alive(), "the streams keep the server from ending"


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def streams(world: World) -> EventStreams:
    return EventStreams(world.store, most=2, pause=0.02, patience=0.1, heartbeat=0.2)


@pytest.fixture
def live(world: World, streams: EventStreams) -> Iterator[httpx.Client]:
    with Live(world, streams) as client, client:
        yield client


@pytest.fixture
def job_id(live: httpx.Client, world: World) -> str:
    file = live.post(
        "/v1/files", files={"file": ("a.jsonl", b"{}\n")}, data={"purpose": "fine-tune"}
    ).json()
    body = {"model": "smollm2-135m-instruct", "training_file": file["id"]}
    created: str = live.post(JOBS, json=body).json()["id"]
    world.run(created)
    return created


@contextmanager
def listening(live: httpx.Client, job_id: str, **headers: str) -> Iterator[Iterator[str]]:
    """Listen to the job's events, line by line."""
    with live.stream("GET", f"{JOBS}/{job_id}/events", headers=STREAM | headers) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        yield answer.iter_lines()


def frames(lines: Iterator[str], *, most: int = 10_000) -> list[dict[str, str]]:
    """Return the next events of the stream, up to its end."""
    found: list[dict[str, str]] = []
    fields: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            found.append(fields)
            fields = {}
            if len(found) == most:
                break
    return found


def listed(live: httpx.Client, job_id: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = live.get(f"{JOBS}/{job_id}/events?limit=100").json()["data"]
    return events[::-1]


def test_an_ended_jobs_events_come_oldest_first_and_the_stream_ends(
    live: httpx.Client, world: World, job_id: str
) -> None:
    world.finish(job_id)

    with listening(live, job_id) as lines:
        found = frames(lines)

    events = listed(live, job_id)
    assert [json.loads(frame["data"]) for frame in found] == events
    assert [frame["id"] for frame in found] == [event["id"] for event in events]
    assert {frame["event"] for frame in found} == {"fine_tuning.job.event"}


def test_a_new_event_follows_within_a_second(live: httpx.Client, world: World, job_id: str) -> None:
    with listening(live, job_id) as lines:
        frames(lines, most=len(listed(live, job_id)))
        began = time.monotonic()
        world.finish(job_id)
        (first, *_) = frames(lines)

    assert "New fine-tuned model" in json.loads(first["data"])["message"]
    assert time.monotonic() - began < 1
    assert EventStreams(world.store).pause < 1


def test_a_stream_goes_on_behind_the_last_event_id(
    live: httpx.Client, world: World, job_id: str
) -> None:
    world.finish(job_id)
    events = listed(live, job_id)

    with listening(live, job_id, **{"Last-Event-ID": events[2]["id"]}) as lines:
        found = frames(lines)

    assert [frame["id"] for frame in found] == [event["id"] for event in events[3:]]


def test_a_stream_that_knows_all_so_far_gets_only_what_is_new(
    live: httpx.Client, world: World, job_id: str
) -> None:
    known = listed(live, job_id)

    with listening(live, job_id, **{"Last-Event-ID": known[-1]["id"]}) as lines:
        world.finish(job_id)
        found = frames(lines)

    assert [frame["id"] for frame in found] == [e["id"] for e in listed(live, job_id)[len(known) :]]


def test_behind_the_last_event_of_an_ended_job_there_is_nothing_more(
    live: httpx.Client, world: World, job_id: str
) -> None:
    world.finish(job_id)
    last = listed(live, job_id)[-1]["id"]

    answer = live.get(f"{JOBS}/{job_id}/events", headers=STREAM | {"Last-Event-ID": last})

    assert (answer.status_code, answer.content) == (204, b"")


def test_a_cancelled_jobs_last_steps_are_still_told(
    live: httpx.Client, world: World, job_id: str
) -> None:
    job = world.store.change_job(world.store.job(job_id), JobChange(submission_open=True))
    world.store.cancel_job(job_id, now=1)
    with listening(live, job_id) as lines:
        frames(lines, most=len(listed(live, job_id)))
        late = world.store.job(job_id)
        world.store.change_job(late, JobChange(submission_open=False))
        assert frames(lines) == []
    assert job.status is JobStatus.RUNNING


def test_a_stream_ends_with_its_key(live: httpx.Client, world: World, job_id: str) -> None:
    secret, key = new_key("default", "t", scope=Scope.READ, now=0, expires_at=None)
    world.store.add_key(key)
    world.clock.advance(1)
    with listening(live, job_id, Authorization=f"Bearer {secret}") as lines:
        frames(lines, most=2)
        world.store.revoke_key(key.id)
        world.clock.advance(1)
        assert all(json.loads(frame["data"]) for frame in frames(lines))
    assert not world.store.job(job_id).status.terminal
    assert EventStreams(world.store).patience <= 5


def test_a_stream_without_a_key_ends_once_keys_are_asked_for(
    live: httpx.Client, world: World, job_id: str
) -> None:
    with listening(live, job_id) as lines:
        frames(lines, most=2)
        _, key = new_key("default", "t", scope=Scope.READ, now=0, expires_at=None)
        world.store.add_key(key)
        world.clock.advance(1)
        frames(lines)
    assert not world.store.job(job_id).status.terminal


def test_a_silent_stream_says_that_it_is_alive(
    live: httpx.Client, world: World, job_id: str
) -> None:
    with listening(live, job_id) as lines:
        assert any(line == ":" for line in lines)
    assert EventStreams(world.store).heartbeat == 15


def test_streams_of_silent_jobs_ask_the_store_together(
    live: httpx.Client,
    world: World,
    streams: EventStreams,
    job_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int | None] = []
    looked: list[str] = []
    news, behind = SqlStore.news, SqlStore.events_behind

    def count_news(store: SqlStore, *, behind: int | None) -> News:
        asked.append(behind)
        return news(store, behind=behind)

    def count_looks(store: SqlStore, job: str, **place: Any) -> Told:
        looked.append(job)
        return behind(store, job, **place)

    monkeypatch.setattr(SqlStore, "news", count_news)
    monkeypatch.setattr(SqlStore, "events_behind", count_looks)
    streams.patience = streams.heartbeat = 60
    known = len(listed(live, job_id))
    with listening(live, job_id) as first, listening(live, job_id) as second:
        frames(first, most=known)
        frames(second, most=known)
        until(lambda: len(asked) > 5)
        looks, questions = len(looked), len(asked)
        until(lambda: len(asked) > questions + 20)
        assert len(looked) == looks
        world.finish(job_id)
        assert frames(first)
        assert frames(second)


def test_the_list_stays_what_it_is_for_all_others(live: httpx.Client, job_id: str) -> None:
    for accept in ("application/json", "*/*", "application/json, text/event-stream"):
        answer = live.get(f"{JOBS}/{job_id}/events", headers={"Accept": accept})
        assert answer.json()["object"] == "list"


@pytest.mark.parametrize(
    ("query", "headers", "status", "param"),
    [
        ("", {"Last-Event-ID": "ftevent-no"}, 400, "Last-Event-ID"),
        ("?limit=5", {}, 400, "limit"),
    ],
)
def test_a_stream_that_cannot_begin_is_refused_at_its_place(
    live: httpx.Client, job_id: str, query: str, headers: dict[str, str], status: int, param: str
) -> None:
    answer = live.get(f"{JOBS}/{job_id}/events{query}", headers=STREAM | headers)
    assert answer.status_code == status
    assert answer.json()["error"]["param"] == param


def test_a_stream_of_an_unknown_job_is_refused(live: httpx.Client) -> None:
    assert live.get(f"{JOBS}/ftjob-x/events", headers=STREAM).status_code == 404


def test_too_many_streams_are_refused_until_one_ends(live: httpx.Client, job_id: str) -> None:
    with listening(live, job_id) as first:
        frames(first, most=1)
        with listening(live, job_id) as second:
            frames(second, most=1)
            refused = live.get(f"{JOBS}/{job_id}/events", headers=STREAM)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    assert refused.json()["error"]["code"] == "too_many_streams"

    def free() -> bool:
        with live.stream("GET", f"{JOBS}/{job_id}/events", headers=STREAM) as answer:
            return answer.status_code == 200

    until(free)


def test_the_end_of_the_service_ends_all_streams(
    live: httpx.Client, streams: EventStreams, job_id: str
) -> None:
    with listening(live, job_id) as lines:
        frames(lines, most=1)
        streams.close()
        frames(lines)
