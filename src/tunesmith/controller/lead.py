"""Which controller acts: one leads by a lease in the store, and another stands by."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from tunesmith.domain.errors import LeaseLostError
from tunesmith.domain.liveness import CONTROLLER, STANDBY, Lease
from tunesmith.store.life_protocol import LeaseStore

LOOK_PAUSE = 0.5
"""Seconds between two looks of a standby whether somebody leads."""

RENEW_PAUSE = 2.0
"""Seconds between two renewals of a lease, a third of its life."""

HANDOVER_PATIENCE = 3.0
"""Seconds that a leader who leaves gives the standby to take over."""

logger = logging.getLogger(__name__)


@contextmanager
def holding(
    store: LeaseStore, lease: Lease, *, given_up: threading.Event | None = None
) -> Iterator[None]:
    """Renew `lease` by a thread of its own while the block lasts, and then release it.

    `given_up` is set where the lease is lost. Where another sets it, the renewals end, and
    the lease runs out even while the block lasts.
    """
    done = threading.Event()
    renew = partial(_renew, store, lease, done=done, given_up=given_up or threading.Event())
    thread = threading.Thread(target=renew, name=lease.name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        store.release_lease(lease)


def _renew(
    store: LeaseStore, lease: Lease, *, done: threading.Event, given_up: threading.Event
) -> None:
    while not done.wait(RENEW_PAUSE) and not given_up.is_set():
        try:
            store.renew_lease(lease)
        except LeaseLostError:
            logger.warning("Another process has taken the lease '%s'.", lease.name)
            given_up.set()
        except Exception:
            logger.exception("The lease '%s' could not be renewed this time.", lease.name)


def stand_by(
    store: LeaseStore,
    holder: str,
    *,
    stop: threading.Event,
    beat: Callable[[], None] = lambda: None,
) -> Lease | None:
    """Return the lease of the controller that leads, once `holder` has it; `None` upon `stop`.

    `beat` is called before each look whether somebody leads. Meanwhile one of those who wait holds
    the lease of the standby, so that a leader who leaves knows that somebody takes over.
    """
    standing = False
    with ExitStack() as held:
        while not stop.is_set():
            beat()
            lease = _take(store, CONTROLLER, holder=holder)
            if lease is not None:
                logger.info("This controller leads.")
                return lease
            second = None if standing else _take(store, STANDBY, holder=holder)
            if second is not None:
                logger.info("Another controller leads; this one stands by.")
                held.enter_context(holding(store, second))
                standing = True
            stop.wait(LOOK_PAUSE)
    return None


def take_back(store: LeaseStore, holder: str) -> Lease | None:
    """Return the lease anew that `holder` has released, unless another leads by now.

    Who stands by has some seconds to take it first.
    """
    deadline = time.monotonic() + HANDOVER_PATIENCE
    while store.lease(STANDBY) is not None and time.monotonic() < deadline:
        if store.lease(CONTROLLER) is not None:
            return None
        time.sleep(LOOK_PAUSE / 2)
    return store.take_lease(CONTROLLER, holder)


def _take(store: LeaseStore, name: str, *, holder: str) -> Lease | None:
    # Looked at first, since to take one locks the whole of SQLite.
    last = store.lease(name)
    return store.take_lease(name, holder) if last is None or last.holder == holder else None
