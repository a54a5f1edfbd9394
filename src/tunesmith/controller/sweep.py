"""Clears away what processes that were killed have left behind in the data folder."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from itertools import islice

from tunesmith.controller.doors import Doors
from tunesmith.controller.retention import drop_old
from tunesmith.domain.errors import ArtifactMissingError, ConflictError, NotFoundError
from tunesmith.domain.retention import Retention

UNFINISHED_AGE = 24 * 3600.0
"""Seconds after which a write that did not end is given up; a training may be at a long one."""

UNLISTED_AGE = 24 * 3600.0
"""Seconds after which a file's bytes that the store does not know are given up."""

DELIVERY_AGE = 30 * 24 * 3600.0
"""Seconds for which the log keeps a webhook's delivery."""

ESTIMATE_AGE = 30 * 24 * 3600.0
"""Seconds for which an estimate is kept."""

SWEEP_PAUSE = 3600.0
"""Seconds between two sweeps, so that an upload's parts go within an hour of its expiry."""

EXPIRY_PAUSE = 60.0
"""Seconds between two looks for files that have expired."""

_BATCH = 1000

logger = logging.getLogger(__name__)


def keep_swept(doors: Doors, stop: threading.Event, *, retention: Retention) -> None:
    """Sweep at once and then every hour, and drop what expires every minute, until `stop` is set.

    What has outlived `retention` goes with a sweep. A fault is logged.
    """
    due = doors.clock.now()
    while not stop.is_set():
        try:
            drop_expired(doors)
            if doors.clock.now() >= due:
                due += SWEEP_PAUSE
                sweep(doors)
                drop_old(doors, retention)
        except Exception:
            logger.exception("The data folder could not be swept; the next time tries again.")
        stop.wait(EXPIRY_PAUSE)


def drop_expired(doors: Doors) -> None:
    """Remove the files that have expired, and their bytes where no other file has the same."""
    expired = doors.store.expired_files()
    for file in expired:
        with doors.artifacts.locked(file.key), suppress(NotFoundError):
            if not doors.store.drop_expired_file(file.id):
                doors.artifacts.delete(file.key)
    if expired:
        logger.info("Removed %d files that have expired.", len(expired))


def sweep(doors: Doors) -> None:
    """Remove unfinished writes, files whose row was never written, and parts of ended uploads.

    Younger ones may belong to somebody who is at work, and stay.
    """
    now = doors.clock.now()
    unfinished = doors.artifacts.drop_unfinished(before=now - UNFINISHED_AGE)
    unlisted = _drop_unlisted(doors, before=now - UNLISTED_AGE)
    ended = _drop_parts_of_ended(doors)
    doors.store.drop_deliveries(before=int(now - DELIVERY_AGE))
    doors.store.drop_idempotency_keys()
    doors.store.drop_estimates(before=int(now - ESTIMATE_AGE))
    if unfinished or unlisted or ended:
        logger.info(
            "Swept the data folder: %d unfinished writes, %d uploads without a row, "
            "parts of %d uploads that have ended.",
            unfinished,
            unlisted,
            ended,
        )


def _drop_parts_of_ended(doors: Doors) -> int:
    """Delete the parts of uploads that have expired, or whose end was cut short."""
    uploads = {key.split("/")[1] for key in doors.artifacts.list("uploads")}
    ended = [upload_id for upload_id in uploads if not _is_pending(doors, upload_id)]
    for upload_id in ended:
        doors.artifacts.delete(f"uploads/{upload_id}")
    return len(ended)


def _is_pending(doors: Doors, upload_id: str) -> bool:
    try:
        doors.store.pending_upload(upload_id)
    except (ConflictError, NotFoundError):
        return False
    return True


def _drop_unlisted(doors: Doors, *, before: float) -> int:
    dropped = 0
    keys = iter(doors.artifacts.list("files"))
    while batch := list(islice(keys, _BATCH)):
        named = doors.store.keys_with_files(batch)
        dropped += sum(
            _drop_one_unlisted(doors, key, before=before) for key in batch if key not in named
        )
    return dropped


def _drop_one_unlisted(doors: Doors, key: str, *, before: float) -> bool:
    """Delete the bytes under `key` if they are old and still no file's."""
    with doors.artifacts.locked(key):
        # An upload of the same content may have come since, which writes and records it locked.
        unlisted = _is_older(doors, key, before=before) and not doors.store.keys_with_files([key])
        if unlisted:
            doors.artifacts.delete(key)
        return unlisted


def _is_older(doors: Doors, key: str, *, before: float) -> bool:
    try:
        return doors.artifacts.written_at(key) < before
    except ArtifactMissingError:
        return False
