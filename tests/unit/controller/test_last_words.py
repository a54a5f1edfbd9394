"""An attempt that dies without an outcome leaves its last words in the log of its job."""

from __future__ import annotations

import dataclasses

import pytest

from tunesmith.artifacts.logs import LogFile
from tunesmith.cluster.protocol import SubmissionState
from tunesmith.controller.last_words import keep_last_words
from tunesmith.domain.errors import ClusterUnavailableError
from tunesmith.domain.events import RunOutcome
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.jobs import Job, JobError, JobStatus
from unit.controller.world import World

FIRST = "2026-01-01T00:00:00.000Z attempt 1 rank 0 node n INFO Asked for a model"
LAST = "2026-01-01T00:00:01.000Z attempt 1 rank 0 node n INFO Step 1"
TRACEBACK = 'Traceback (most recent call last):\n  File "a.py"\nImportError: no torch\n'


def lines(world: World, job: Job) -> list[str]:
    return [line.text for line in LogFile(world.artifacts, job.id).last(100).items]


def die(world: World, job: Job, *, printed: str) -> None:
    running = world.running(job)
    world.cluster.print(running.submission_id, printed)
    message = f"exit code 1, last available logs (truncated to 20,000 chars):\n{printed}"
    world.cluster.end(running.submission_id, SubmissionState.FAILED, message=message)
    world.controller.step()


def test_what_died_with_a_traceback_shows_it(world: World) -> None:
    job = world.add_job()
    die(world, job, printed=TRACEBACK)

    head = "2023-11-14T22:13:20Z attempt 1 driver printed: "
    assert lines(world, job) == [f"{head}{line}" for line in TRACEBACK.splitlines()]
    [told] = [message for message in world.messages(job) if "died" in message]
    assert "died (exit code 1)." in told


def test_what_the_log_has_already_is_not_repeated(world: World) -> None:
    job = world.add_job()
    LogFile(world.artifacts, job.id).append([FIRST])
    die(world, job, printed=f"{FIRST}\n{LAST}\nSegmentation fault\n")

    first, *others = lines(world, job)
    assert first == FIRST
    assert [line.partition(" printed: ")[2] for line in others] == [LAST, "Segmentation fault"]


def test_a_controller_that_died_in_between_adds_nothing_twice(world: World) -> None:
    job = world.add_job()
    running = world.running(job)
    world.cluster.print(running.submission_id, TRACEBACK)

    keep_last_words(world.doors, running)
    keep_last_words(world.doors, running)

    assert len(lines(world, job)) == 3


def test_each_attempt_has_its_own_last_words(world: World) -> None:
    job = world.add_job()
    for _ in range(3):
        die(world, job, printed="Killed\n")

    world.step_until(job, JobStatus.FAILED)

    assert [line.split(" ", 1)[1] for line in lines(world, job)] == [
        f"attempt {attempt} driver printed: Killed" for attempt in (1, 2, 3)
    ]


def test_a_run_that_said_how_it_ended_needs_no_last_words(world: World) -> None:
    job = world.running(world.add_job())
    world.cluster.print(job.submission_id, TRACEBACK)
    world.write(job, outcome=RunOutcome(error=JobError(code=FailureCode.OUT_OF_MEMORY, message="")))

    world.step_until(job, JobStatus.FAILED)

    assert lines(world, job) == []


def test_last_words_that_cannot_be_had_keep_no_job_from_going_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise ClusterUnavailableError

    monkeypatch.setattr(world.cluster, "logs", refuse)
    job = world.add_job()
    die(world, job, printed=TRACEBACK)

    assert world.running(job).attempt == 2
    assert lines(world, job) == []


def test_last_words_show_no_secret(world: World) -> None:
    job = world.running(world.add_job())
    world.cluster.print(job.submission_id, "401 for hf_abcdefgh, whsec_abcdefgh\n")

    keep_last_words(dataclasses.replace(world.doors, secrets=frozenset({"hf_abcdefgh"})), job)

    [line] = lines(world, job)
    assert line.endswith("printed: 401 for ***, whsec_***")
