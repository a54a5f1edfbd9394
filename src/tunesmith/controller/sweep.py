"""Clears away what processes that were killed have left behind in the data folder."""

from __future__ import annotations

import logging

from tunesmith.controller.doors import Doors
from tunesmith.domain.errors import ArtifactMissingError
from tunesmith.domain.files import File
from tunesmith.store.protocol import Store

UNFINISHED_AGE = 24 * 3600.0
"""Seconds after which a write that did not end is given up; a training may be at a long one."""

UNLISTED_AGE = 3600.0
"""Seconds after which an upload that the store does not know is given up; it is told at once."""

_PAGE = 1000

logger = logging.getLogger(__name__)


def sweep(doors: Doors) -> None:
    """Remove unfinished writes, and uploads whose row was never written.

    Younger ones may belong to somebody who is at work, and stay.
    """
    now = doors.clock.now()
    unfinished = doors.artifacts.drop_unfinished(before=now - UNFINISHED_AGE)
    unlisted = _drop_unlisted(doors, before=now - UNLISTED_AGE)
    if unfinished or unlisted:
        logger.info(
            "Swept the data folder: %d unfinished writes, %d uploads without a row.",
            unfinished,
            unlisted,
        )


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
