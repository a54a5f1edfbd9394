"""One controller leads, another stands by, and the lead passes on however it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from stores import fresh_store
from tunesmith.controller import lead
from tunesmith.controller.lead import holding, stand_by, take_back
from tunesmith.domain.clock import SystemClock
from tunesmith.domain.jobs import JobStatus
from tunesmith.domain.liveness import CONTROLLER, LEASE_LIFE, STANDBY, Lease
from tunesmith.store.sql import SqlStore
from unit.controller.world import World


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> SqlStore:
    monkeypatch.setattr(lead, "LOOK_PAUSE", 0.01)
    monkeypatch.setattr(lead, "RENEW_PAUSE", 0.01)
    return fresh_store(SystemClock())


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def taken(store: SqlStore, holder: str) -> Lease:
    lease = store.take_lease(CONTROLLER, holder)
    assert lease is not None
    return lease


def test_who_stands_by_gives_a_beat_with_each_look(store: SqlStore) -> None:
    taken(store, "other")
    stop, beats = threading.Event(), list[int]()

    def beat() -> None:
        beats.append(1)
        if len(beats) == 3:
            stop.set()

    assert stand_by(store, "me", stop=stop, beat=beat) is None
    assert len(beats) == 3


class Waiting:
    """A controller that stands by in a thread, and what it got."""

    def __init__(self, store: SqlStore, holder: str) -> None:
        self.lease: Lease | None = None
        self.stop = threading.Event()

        def wait() -> None:
            self.lease = stand_by(store, holder, stop=self.stop)

        self.thread = threading.Thread(target=wait)
        self.thread.start()


@contextmanager
def waiting(store: SqlStore, holder: str) -> Iterator[Waiting]:
    """Let a controller stand by while the block lasts."""
    controller = Waiting(store, holder)
    try:
        until(lambda: store.lease(STANDBY))
        yield controller
    finally:
        controller.stop.set()
        controller.thread.join(20)
        assert not controller.thread.is_alive()


def test_the_first_leads_at_once(store: SqlStore) -> None:
    lease = stand_by(store, "one", stop=threading.Event())
    assert lease is not None
    assert store.lease(CONTROLLER) == lease
    assert store.lease(STANDBY) is None


def test_a_second_stands_by_until_the_first_leaves(store: SqlStore) -> None:
    with holding(store, taken(store, "one")), waiting(store, "two") as second:
        until(lambda: (standby := store.lease(STANDBY)) and standby.holder == "two")
        assert second.lease is None
    current = store.lease(CONTROLLER)
    assert current is None


def test_a_leader_that_leaves_hands_over(store: SqlStore) -> None:
    first = taken(store, "one")
    with waiting(store, "two") as second:
        with holding(store, first):
            pass
        assert take_back(store, "one") is None
        second.thread.join(20)
        assert second.lease is not None
        assert second.lease.holder == "two"
    assert store.lease(STANDBY) is None


def test_a_leader_that_leaves_alone_takes_the_lease_back_at_once(store: SqlStore) -> None:
    with holding(store, taken(store, "one")):
        pass
    again = take_back(store, "one")
    assert again is not None
    assert again.term == 2


def test_a_standby_that_died_is_not_waited_for_long(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lead, "HANDOVER_PATIENCE", 0.1)
    store.take_lease(STANDBY, "dead")
    again = take_back(store, "one")
    assert again is not None


def test_a_standby_that_is_asked_to_end_leaves_its_place_to_another(store: SqlStore) -> None:
    taken(store, "one")
    with waiting(store, "two"):
        pass
    assert store.lease(STANDBY) is None


def test_a_lost_lease_is_noticed(store: SqlStore) -> None:
    first, given_up = taken(store, "one"), threading.Event()
    with holding(store, first, given_up=given_up):
        store.release_lease(first)
        successor = taken(store, "two")
        assert given_up.wait(20)
    assert store.lease(CONTROLLER) == successor


def test_what_is_given_up_is_renewed_no_more(store: SqlStore) -> None:
    given_up = threading.Event()
    lease = taken(store, "one")
    with holding(store, lease, given_up=given_up):
        until(lambda: (now := store.lease(CONTROLLER)) and now.expires_at > lease.expires_at)
        given_up.set()
        until(lambda: not any(thread.name == CONTROLLER for thread in threading.enumerate()))


def test_a_controller_that_was_replaced_leaves_the_jobs_to_its_successor(world: World) -> None:
    first = world.controller = world.new_controller(holder="one")
    job = world.running(world.add_job())
    world.report_success(job)
    world.clock.advance(LEASE_LIFE)
    world.controller = world.new_controller(holder="two")
    before = world.job(job)

    # It would go on for ever if it did not notice.
    first.run(threading.Event())

    assert world.job(job) == before
    world.step_until(job, JobStatus.SUCCEEDED)
