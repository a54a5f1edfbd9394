"""Of several processes one holds a lease, and who has lost it changes nothing any more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tunesmith.domain.clock import FakeClock
from tunesmith.domain.errors import LeaseLostError
from tunesmith.domain.jobs import JobChange, JobStatus
from tunesmith.domain.liveness import CONTROLLER, LEASE_LIFE, Lease, SignOfLife
from tunesmith.store.sql import SqlStore

if TYPE_CHECKING:
    from unit.store.conftest import Examples, Steps

Open = Callable[[], SqlStore]


def taken(store: SqlStore, holder: str) -> Lease:
    lease = store.take_lease(CONTROLLER, holder)
    assert lease is not None
    return lease


def test_a_lease_is_one_holders_until_it_expires(open_store: Open, clock: FakeClock) -> None:
    one, other = open_store(), open_store()
    lease = taken(one, "one")
    assert other.take_lease(CONTROLLER, "other") is None
    assert other.lease(CONTROLLER) == lease

    clock.advance(LEASE_LIFE)

    assert other.lease(CONTROLLER) is None
    assert taken(other, "other").term == lease.term + 1
    with pytest.raises(LeaseLostError):
        one.renew_lease(lease)


def test_a_renewed_lease_holds_on(open_store: Open, clock: FakeClock) -> None:
    one, other = open_store(), open_store()
    lease = taken(one, "one")
    for _ in range(5):
        clock.advance(LEASE_LIFE / 2)
        one.renew_lease(lease)
        assert other.take_lease(CONTROLLER, "other") is None


def test_a_lease_that_expired_but_that_nobody_took_is_renewed(
    open_store: Open, clock: FakeClock
) -> None:
    store = open_store()
    lease = taken(store, "one")
    clock.advance(10 * LEASE_LIFE)
    store.renew_lease(lease)
    assert store.take_lease(CONTROLLER, "other") is None


def test_a_released_lease_is_free_at_once(open_store: Open) -> None:
    one, other = open_store(), open_store()
    lease = taken(one, "one")
    one.release_lease(lease)
    with pytest.raises(LeaseLostError):
        one.renew_lease(lease)

    successor = taken(other, "other")

    one.release_lease(lease)
    assert other.lease(CONTROLLER) == successor


def test_its_holder_takes_it_anew_and_shuts_its_earlier_self_out(open_store: Open) -> None:
    store = open_store()
    before = taken(store, "one")
    assert taken(store, "one").term == before.term + 1
    with pytest.raises(LeaseLostError):
        store.renew_lease(before)


def test_a_clock_that_was_set_back_keeps_no_lease_alive(open_store: Open, clock: FakeClock) -> None:
    one, other = open_store(), open_store()
    taken(one, "one")
    clock.advance(-3600)
    assert taken(other, "other").holder == "other"


def test_of_many_who_take_it_at_once_one_gets_it(open_store: Open) -> None:
    stores = [open_store() for _ in range(4)]
    start = threading.Barrier(len(stores))

    def take(number: int) -> Lease | None:
        start.wait()
        return stores[number].take_lease(CONTROLLER, f"holder {number}")

    with ThreadPoolExecutor(len(stores)) as threads:
        leases = list(threads.map(take, range(len(stores))))

    assert sum(lease is not None for lease in leases) == 1


def test_who_has_lost_the_lease_changes_nothing_any_more(
    open_store: Open, clock: FakeClock, examples: Examples, steps: Steps
) -> None:
    one, other = open_store(), open_store()
    fenced = one.fenced(taken(one, "one"))
    job = steps.running(fenced)
    clock.advance(LEASE_LIFE)
    fenced.ingest(job.id, [examples.run_event(1)], checkpoints=[])
    taken(other, "other")
    before = other.job(job.id), other.list_events(job.id, after=None, limit=9)

    changes: list[Callable[[], object]] = [
        lambda: fenced.change_job(job, JobChange(status=JobStatus.QUEUED)),
        lambda: fenced.ingest(job.id, [examples.run_event(2)], checkpoints=[]),
        lambda: fenced.within("default").cancel_job(job.id, now=1),
        lambda: fenced.give_sign(SignOfLife(process=CONTROLLER, at=1, cluster_up=True)),
    ]
    for change in changes:
        with pytest.raises(LeaseLostError):
            change()

    assert (other.job(job.id), other.list_events(job.id, after=None, limit=9)) == before
    assert other.last_sign(CONTROLLER) is None
    assert fenced.job(job.id) == before[0]
