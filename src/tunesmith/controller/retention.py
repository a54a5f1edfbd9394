"""Drops what has grown old by the operator's rules: events, checkpoints, files, exports."""

from __future__ import annotations

import logging
from contextlib import suppress

from tunesmith.artifacts.exports import ExportDirectory
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.controller.doors import Doors
from tunesmith.domain.errors import ConflictError, NotFoundError
from tunesmith.domain.events import Checkpoint
from tunesmith.domain.retention import DAY, Retention, spare

MOST = 1000
"""Jobs, checkpoints, files or exports that go at once; the rest goes with the next sweep."""

_PAGE = 10_000
"""Checkpoints of a job that are looked at, more than any keeps."""

logger = logging.getLogger(__name__)


def drop_old(doors: Doors, retention: Retention) -> None:
    """Drop what has outlived `retention`, up to `MOST` of each kind, and log how much that was."""
    now = int(doors.clock.now())
    jobs = checkpoints = files = exports = 0
    if retention.events_days is not None:
        before = now - retention.events_days * DAY
        jobs = doors.store.drop_old_metrics(ended_before=before, limit=MOST)
    if retention.checkpoints_days is not None:
        checkpoints = _drop_checkpoints(doors, before=now - retention.checkpoints_days * DAY)
    if retention.files_days is not None:
        files = _drop_files(doors, since=now - retention.files_days * DAY)
    if retention.exports_days is not None:
        exports = _drop_exports(doors, before=now - retention.exports_days * DAY)
    if jobs or checkpoints or files or exports:
        logger.info(
            "Dropped what has grown old: the metrics events of %d jobs, %d checkpoints, %d files, "
            "%d exports.",
            jobs,
            checkpoints,
            files,
            exports,
        )


def _drop_checkpoints(doors: Doors, *, before: int) -> int:
    dropped = 0
    for job_id in doors.store.jobs_with_checkpoints(ended_before=before):
        page = doors.store.list_checkpoints(job_id, after=None, limit=_PAGE)
        for checkpoint in spare(page.items):
            dropped += _drop_checkpoint(doors, checkpoint)
            if dropped == MOST:
                return dropped
    return dropped


def _drop_checkpoint(doors: Doors, checkpoint: Checkpoint) -> bool:
    """Delete `checkpoint` as its owner would, unless anybody uses it; tell whether it went."""
    name = checkpoint.model
    with suppress(ConflictError, NotFoundError):
        shared = doors.store.list_permissions(
            name, project_id=None, after=None, limit=1, order="asc"
        )
        if shared.items or doors.store.exports_of(name):
            return False
        doors.store.retire_model(name)
        RunDirectory(doors.artifacts, checkpoint.job_id).drop_checkpoint(checkpoint.step)
        doors.store.delete_model(name)
        return True
    return False


def _drop_files(doors: Doors, *, since: int) -> int:
    dropped = 0
    for file in doors.store.unused_files(unused_since=since, limit=MOST):
        with doors.artifacts.locked(file.key), suppress(NotFoundError):
            if not doors.store.drop_unused_file(file.id, unused_since=since):
                doors.artifacts.delete(file.key)
            dropped += 1
    return dropped


def _drop_exports(doors: Doors, *, before: int) -> int:
    dropped = 0
    for export in doors.store.old_exports(ended_before=before, limit=MOST):
        # Its files first: where that is cut short, the row is there for the next sweep.
        ExportDirectory(doors.artifacts, export.id).delete()
        with suppress(NotFoundError):
            doors.store.delete_export(export.id)
            dropped += 1
    return dropped
