"""Whatever users ask, the cluster answers and controllers die of: each job comes to a true end.

Controllers die, and are replaced, between any two calls through their doors.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tunesmith.cluster.protocol import Submission, SubmissionState
from tunesmith.controller import validate
from tunesmith.controller.loop import Controller
from tunesmith.domain.errors import LeaseLostError, StaleJobError, TunesmithError
from tunesmith.domain.events import RunOutcome
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.jobs import TRANSITIONS, Job, JobError, JobStatus
from tunesmith.domain.liveness import LEASE_LIFE
from tunesmith.domain.spec import JobRequest
from tunesmith.store.rules import pause_event, resume_event
from unit.controller.world import RETRIES, World, good_rows

MOST_JOBS = 3
MOST_PASSES = 60
"""Passes within which all jobs end once nothing disturbs any more."""


class Death(BaseException):
    """The controller's process is killed."""


class AtOnce:
    """Checks files in the controller's own thread, so that a script does the same each time."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def submit(self, check: Callable[[], Any]) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(check())
        return done

    def shutdown(self, **_: object) -> None:
        pass


@dataclass
class Fuse:
    """Lets something happen at one of a controller's next calls, before it or after it."""

    calls: int = 0
    act: Callable[[], None] | None = None

    def burn(self) -> None:
        self.calls -= 1
        if self.calls <= 0 and self.act is not None:
            act, self.act = self.act, None
            act()


class Door:
    """A door whose every call may be a controller's last."""

    def __init__(self, door: Any, fuse: Fuse, *, observe: Callable[[], None]) -> None:
        self._door = door
        self._fuse = fuse
        self._observe = observe

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._door, name)

        def call(*given: Any, **named: Any) -> Any:
            self._fuse.burn()
            answer = method(*given, **named)
            if name in ("change_job", "finish_job"):
                self._observe()
            self._fuse.burn()
            return answer

        return call


@dataclass
class Town:
    """The controllers, the users and the cluster, each moved by a script."""

    world: World = field(default_factory=World)
    fuse: Fuse = field(default_factory=Fuse)
    holders: int = 0
    statuses: dict[str, JobStatus] = field(default_factory=dict)
    bad: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.world.controller = self.elect()

    def elect(self) -> Controller:
        """Let a new controller lead, once the lease of the one before has run out."""
        self.world.clock.advance(LEASE_LIFE)
        self.holders += 1

        def door(real: Any) -> Any:
            return Door(real, self.fuse, observe=self.observe)

        return self.world.new_controller(holder=f"controller {self.holders}", door=door)

    def jobs(self) -> list[Job]:
        return [self.world.store.job(job_id) for job_id in self.statuses]

    def observe(self) -> None:
        """Hold each change of a job's status to the table."""
        for job in self.jobs():
            before = self.statuses[job.id]
            assert job.status is before or job.status in TRANSITIONS[before]
            self.statuses[job.id] = job.status

    # What users do.

    def create(self, number: int) -> None:
        if len(self.statuses) < MOST_JOBS:
            rows: list[object] = good_rows() if number % 4 else [{"instruction": "no output"}]
            job = self.world.add_job(rows=rows, request=JobRequest(cpus=1))
            self.statuses[job.id] = job.status
            if not number % 4:
                self.bad.add(job.id)

    def pause(self, number: int) -> None:
        self.ask(self.world.store.pause_job, number)

    def resume(self, number: int) -> None:
        self.ask(self.world.store.resume_job, number)

    def cancel(self, number: int) -> None:
        def cancel(job_id: str) -> None:
            self.world.store.cancel_job(job_id, now=1)
            self.cancelled.add(job_id)

        self.ask(cancel, number)

    def ask(self, question: Callable[[str], object], number: int) -> None:
        if self.statuses:
            with suppress(TunesmithError):
                question(list(self.statuses)[number % len(self.statuses)])
            self.observe()

    # What controllers do.

    def work(self, number: int) -> None:
        for _ in range(number % 4 + 1):
            self.world.controller.step()

    def die(self, number: int) -> None:
        """Let the controller be killed at one of its next calls, and another begin."""

        def kill() -> None:
            raise Death

        self.fuse.calls, self.fuse.act = number, kill
        with suppress(Death):
            self.work(number)
        self.fuse.act = None
        self.world.controller = self.elect()

    def freeze(self, number: int) -> None:
        """Let the controller stand still at one of its next calls until another has led a while."""
        old = self.world.controller

        def be_replaced() -> None:
            self.world.controller = self.elect()
            self.train(number)
            self.work(number)
            self.train(number + 1)

        self.fuse.calls, self.fuse.act = number, be_replaced
        with suppress(LeaseLostError):
            for _ in range(3):
                old.step()
        self.fuse.act = None

    # What the cluster and the training processes do.

    def train(self, number: int) -> None:
        """Let each submission that waits or runs go on, to its end or not."""
        for at, submission in enumerate(self.live()):
            self.go_on(submission, choice=(number + at) % 5)
        running = [each.command[4] for each in self.live(SubmissionState.RUNNING)]
        assert len(running) == len(set(running)), "no job runs twice at once"

    def go_on(self, submission: Submission, *, choice: int) -> None:
        cluster, (job_id, _, attempt) = self.world.cluster, submission.command[4:7]
        job = self.world.store.job(job_id)
        run = self.world.run_of(job)
        cluster.begin(submission.id)
        try:
            run.check_claim(int(attempt))
        except StaleJobError:
            cluster.end(submission.id, SubmissionState.FAILED, message="exit code 3")
            return
        events = run.events(after=0)
        if not any(event.outcome for event in events) and choice < 3:
            self.world.artifacts.put(f"runs/{job_id}/metrics.csv", b"step,train_loss\n1,1.0\n")
            ending = {} if choice else {"outcome": RunOutcome(trained_tokens=1)}
            ending = {"outcome": OUT_OF_MEMORY} if choice == 1 else ending
            self.world.write(job, message=f"line {len(events) + 1}", **ending)
        if choice in (0, 1):
            cluster.end(submission.id, (SubmissionState.SUCCEEDED, SubmissionState.FAILED)[choice])
        elif choice == 3:
            cluster.end(submission.id, SubmissionState.FAILED, message="exit code -9")

    def lose_head(self, number: int) -> None:
        self.world.cluster.lose()

    def fall_silent(self, number: int) -> None:
        self.world.cluster.unavailable = bool(number % 2)

    def disobey(self, number: int) -> None:
        self.world.cluster.obeys_stop = bool(number % 2)

    def wait(self, number: int) -> None:
        self.world.clock.advance(number)

    def live(self, *states: SubmissionState) -> list[Submission]:
        """Return the submissions that wait or run."""
        states = states or (SubmissionState.PENDING, SubmissionState.RUNNING)
        cluster = self.world.cluster
        if cluster.unavailable:
            return []
        known = {each.id: each for each in cluster.submissions}
        found = {id: cluster.status(id) for id in known}
        return [known[id] for id, status in found.items() if status and status.state in states]

    def settle(self) -> None:
        """Let nothing disturb any more, until all jobs have ended."""
        self.world.cluster.unavailable, self.world.cluster.obeys_stop = False, True
        self.world.controller = self.elect()
        for _ in range(MOST_PASSES):
            for number, job in enumerate(self.jobs()):
                if job.status is JobStatus.PAUSED:
                    self.resume(number)
            self.world.controller.step()
            for submission in self.live():
                self.go_on(submission, choice=0)
            self.world.clock.advance(1)
            if not self.world.store.open_jobs():
                return
        raise AssertionError(f"Some jobs do not end: {self.world.store.open_jobs()}")


OUT_OF_MEMORY = RunOutcome(error=JobError(code=FailureCode.OUT_OF_MEMORY, message="no room"))
USERS_OWN = {event("", at=0).message for event in (pause_event, resume_event)}
"""What is told as often as users ask for it."""
MOVES = (
    *(Town.create, Town.pause, Town.resume, Town.cancel),
    *(Town.work, Town.work, Town.die, Town.freeze),
    *(Town.train, Town.train, Town.lose_head, Town.fall_silent, Town.disobey, Town.wait),
)
scripts = st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 40)), max_size=40)


@pytest.fixture(autouse=True, scope="module")
def _checks_at_once() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validate, "ThreadPoolExecutor", AtOnce)
        yield


@settings(max_examples=60, deadline=None)
@given(script=scripts)
# Paused when it has reached its end, and resumed: it begins no second time.
@example(script=[(Town.work, 0), (Town.freeze, 34), (Town.pause, 0)])
def test_every_job_comes_to_a_true_end_and_each_event_is_told_once(
    script: list[tuple[Callable[[Town, int], None], int]],
) -> None:
    town = Town()
    town.create(1)
    for move, number in script:
        move(town, number)

    town.settle()

    for job in town.jobs():
        assert is_true(town, job), (job, town.world.messages(job))
        told = [message for message in town.world.messages(job) if message not in USERS_OWN]
        assert len(told) == len(set(told)), told
        events = town.world.run_of(job).events(after=0)
        lines = [event.message for event in events if event.outcome is None]
        assert [message for message in told if message in lines] == lines
    assert town.live() == []


def is_true(town: Town, job: Job) -> bool:
    """Tell whether the job's end is what became of it."""
    outcomes = [event.outcome for event in town.world.run_of(job).events(after=0) if event.outcome]
    if job.status is JobStatus.CANCELLED:
        return job.id in town.cancelled
    if job.status is JobStatus.SUCCEEDED:
        return outcomes == [RunOutcome(trained_tokens=1)] and job.fine_tuned_model is not None
    failed_by_itself = job.id in town.bad or outcomes == [OUT_OF_MEMORY]
    return failed_by_itself or job.crashes == RETRIES
