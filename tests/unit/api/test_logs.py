"""A job's log: its last lines, those behind a line, and a stream of what follows."""

from __future__ import annotations

import json
import time

import httpx
import pytest

from tunesmith.artifacts.logs import LogFile
from tunesmith.domain.jobs import JobChange
from tunesmith.domain.keys import Scope, new_key
from unit.api.conftest import World
from unit.api.live import JOBS, frames, listening


def write(world: World, job_id: str, *lines: str) -> None:
    LogFile(world.artifacts, job_id).append(lines)


def texts(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [line["text"] for line in answer.json()["data"]]


def told(found: list[dict[str, str]]) -> list[str]:
    return [json.loads(frame["data"])["text"] for frame in found]


def test_the_last_lines_come_oldest_first(live: httpx.Client, world: World, job_id: str) -> None:
    write(world, job_id, *(f"line {number}" for number in range(300)))

    answer = live.get(f"{JOBS}/{job_id}/logs").json()

    assert answer["object"] == "list"
    assert [line["text"] for line in answer["data"]] == [f"line {n}" for n in range(200, 300)]
    assert {line["object"] for line in answer["data"]} == {"fine_tuning.job.log_line"}
    assert answer["has_more"] is False
    assert texts(live.get(f"{JOBS}/{job_id}/logs?tail=2")) == ["line 298", "line 299"]
    assert len(texts(live.get(f"{JOBS}/{job_id}/logs?tail=1000"))) == 300


def test_behind_a_line_one_reads_on(live: httpx.Client, world: World, job_id: str) -> None:
    write(world, job_id, *(f"line {number}" for number in range(1500)))
    path, found, after = f"{JOBS}/{job_id}/logs", list[str](), "0"
    more = True
    while more:
        page = live.get(path, params={"after": after}).json()
        found += [line["text"] for line in page["data"]]
        after, more = page["data"][-1]["id"], page["has_more"]

    assert found == [f"line {number}" for number in range(1500)]
    assert texts(live.get(path, params={"after": after})) == []
    write(world, job_id, "one more")
    assert texts(live.get(path, params={"after": after})) == ["one more"]


def test_a_job_that_has_logged_nothing_has_an_empty_log(live: httpx.Client, job_id: str) -> None:
    answer = live.get(f"{JOBS}/{job_id}/logs").json()
    assert answer == {"object": "list", "data": [], "has_more": False}


def test_an_unknown_job_has_none(live: httpx.Client) -> None:
    for query in ("", "?follow=true"):
        answer = live.get(f"{JOBS}/ftjob-x/logs{query}")
        assert answer.status_code == 404
        assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("query", "headers", "param"),
    [
        ("tail=0", {}, "tail"),
        ("tail=1001", {}, "tail"),
        ("tail=5&after=0", {}, "tail"),
        ("after=-1", {}, "after"),
        ("after=x", {}, "after"),
        ("after=99", {}, "after"),
        ("follow=true&after=99", {}, "after"),
        ("follow=true", {"Last-Event-ID": "99"}, "Last-Event-ID"),
        ("follow=true", {"Last-Event-ID": "ftevent-1"}, "Last-Event-ID"),
        ("follow=perhaps", {}, "follow"),
        ("lines=5", {}, "lines"),
    ],
)
def test_what_makes_no_sense_is_refused_at_its_place(
    live: httpx.Client, world: World, job_id: str, query: str, headers: dict[str, str], param: str
) -> None:
    write(world, job_id, "one")
    answer = live.get(f"{JOBS}/{job_id}/logs?{query}", headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_stream_shows_the_last_lines_then_each_that_comes_and_ends_with_the_job(
    live: httpx.Client, world: World, job_id: str
) -> None:
    write(world, job_id, "zero", "one", "two")
    with listening(live, job_id, to="logs?follow=true&tail=2") as lines:
        assert told(frames(lines, most=2)) == ["one", "two"]
        began = time.monotonic()
        write(world, job_id, "three")
        [new] = frames(lines, most=1)
        assert json.loads(new["data"])["id"] == new["id"]
        assert new["event"] == "fine_tuning.job.log_line"
        write(world, job_id, "four")
        world.finish(job_id)
        assert told(frames(lines)) == ["four"]
    assert time.monotonic() - began < 4


def test_a_stream_waits_for_the_first_line_and_misses_none(
    live: httpx.Client, world: World, job_id: str
) -> None:
    with listening(live, job_id, to="logs?tail=1") as lines:
        write(world, job_id, "one", "two", "three")
        assert told(frames(lines, most=3)) == ["one", "two", "three"]


def test_a_stream_goes_on_behind_the_last_line_that_was_seen(
    live: httpx.Client, world: World, job_id: str
) -> None:
    write(world, job_id, *(f"line {number}" for number in range(2500)))
    world.finish(job_id)
    with listening(live, job_id, to="logs?tail=3") as lines:
        known, *_ = frames(lines)

    headers = {"Last-Event-ID": known["id"]}
    with listening(live, job_id, to="logs?follow=true&tail=3", **headers) as lines:
        assert told(frames(lines)) == ["line 2498", "line 2499"]
    with listening(live, job_id, to="logs?follow=true&after=0") as lines:
        assert told(frames(lines)) == [f"line {number}" for number in range(2500)]


def test_behind_the_last_line_of_an_ended_job_there_is_nothing_more(
    live: httpx.Client, world: World, job_id: str
) -> None:
    write(world, job_id, "one")
    world.finish(job_id)
    answer = live.get(f"{JOBS}/{job_id}/logs?follow=true", headers={"Last-Event-ID": "4"})
    assert (answer.status_code, answer.content) == (204, b"")


def test_the_last_lines_of_a_process_that_is_still_leaving_are_shown(
    live: httpx.Client, world: World, job_id: str
) -> None:
    world.store.change_job(world.store.job(job_id), JobChange(submission_open=True))
    world.store.cancel_job(job_id, now=1)
    write(world, job_id, "one")
    with listening(live, job_id, to="logs") as lines:
        assert told(frames(lines, most=1)) == ["one"]
        write(world, job_id, "last")
        assert told(frames(lines, most=1)) == ["last"]
        world.store.change_job(world.store.job(job_id), JobChange(submission_open=False))
        assert frames(lines) == []


def test_a_stream_ends_with_its_key(live: httpx.Client, world: World, job_id: str) -> None:
    secret, key = new_key("default", "t", scope=Scope.READ, now=0, expires_at=None)
    world.store.add_key(key)
    world.clock.advance(1)
    write(world, job_id, "one")
    with listening(live, job_id, to="logs", Authorization=f"Bearer {secret}") as lines:
        assert told(frames(lines, most=1)) == ["one"]
        world.store.revoke_key(key.id)
        world.clock.advance(1)
        assert frames(lines) == []
    assert not world.store.job(job_id).status.terminal


def test_streams_of_logs_and_events_share_their_places(
    live: httpx.Client, world: World, job_id: str
) -> None:
    write(world, job_id, "one")
    with (
        listening(live, job_id, to="logs") as first,
        listening(live, job_id, to="events") as second,
    ):
        frames(first, most=1)
        frames(second, most=1)
        refused = live.get(f"{JOBS}/{job_id}/logs?follow=true")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "too_many_streams")
