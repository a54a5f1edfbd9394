"""Clears away what processes that were killed have left behind in the data folder."""

from __future__ import annotations

import logging
import threading

from tunesmith.controller.doors import Doors
from tunesmith.domain.errors import ArtifactMissingError, ConflictError, NotFoundError
from tunesmith.domain.files import File
from tunesmith.store.protocol import Store

UNFINISHED_AGE = 24 * 3600.0
"""Seconds after which a write that did not end is given up; a training may be at a long one."""

UNLISTED_AGE = 3600.0
"""Seconds after which an upload that the store does not know is given up; it is told at once."""

SWEEP_PAUSE = 3600.0
"""Seconds between two sweeps, so that an upload's parts go within an hour of its expiry."""

_PAGE = 1000

logger = logging.getLogger(__name__)


def keep_swept(doors: Doors, stop: threading.Event) -> None:
    """Sweep at once and then every hour until `stop` is set; a fault is logged."""
    while not stop.is_set():
        try:
            sweep(doors)
        except Exception:
            logger.exception("The data folder could not be swept; the next time tries again.")
        stop.wait(SWEEP_PAUSE)


def sweep(doors: Doors) -> None:
    """Remove unfinished writes, files whose row was never written, and parts of ended uploads.

    Younger ones may belong to somebody who is at work, and stay.
    """
    now = doors.clock.now()
    unfinished = doors.artifacts.drop_unfinished(before=now - UNFINISHED_AGE)
    unlisted = _drop_unlisted(doors, before=now - UNLISTED_AGE)
    ended = _drop_parts_of_ended(doors)
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
    # The keys are read first: each upload among them that was told by now has its row below.
    keys = [key for key in doors.artifacts.list("files") if _is_older(doors, key, before=before)]
    if not keys:
        return 0
    listed = {file.key for file in _all_files(doors.store)}
    unlisted = [key for key in keys if key not in listed]
    for key in unlisted:
        doors.artifacts.delete(key)
    return len(unlisted)


def _is_older(doors: Doors, key: str, *, before: float) -> bool:
    try:
        return doors.artifacts.written_at(key) < before
    except ArtifactMissingError:
        return False


def _all_files(store: Store) -> list[File]:
    files: list[File] = []
    more = True
    while more:
        after = files[-1].id if files else None
        page = store.list_files(purpose=None, after=after, limit=_PAGE, order="asc")
        files.extend(page.items)
        more = page.has_more
    return files
