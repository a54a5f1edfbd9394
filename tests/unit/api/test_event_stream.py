"""A job's events as a server-sent stream, over a real connection."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest

from tunesmith.api.streams import EventStreams
from tunesmith.domain.events import News, Told
from tunesmith.domain.jobs import JobChange, JobStatus
from tunesmith.domain.keys import Scope, new_key
from tunesmith.store.sql import SqlStore
from unit.api.conftest import World
from unit.api.live import JOBS, STREAM, frames, listening, until


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
