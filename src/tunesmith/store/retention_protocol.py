"""What the rooms above ask of the store to drop what nobody uses any more."""

from __future__ import annotations

from typing import Protocol

from tunesmith.domain.exports import Export
from tunesmith.domain.files import File


class RetentionStore(Protocol):
    """Finds what has grown old, and forgets it; times are in unix seconds."""

    def drop_old_metrics(self, *, ended_before: int, limit: int) -> int:
        """Drop the metrics events of jobs that ended before, of at most `limit` jobs.

        Each job gets an event that says so. Returns the number of jobs.
        """

    def jobs_with_checkpoints(self, *, ended_before: int) -> list[str]:
        """Return the ids of jobs that ended before and have two checkpoints at least.

        None of them holds a submission, whose process might still write.
        """

    def unused_files(self, *, unused_since: int, limit: int) -> list[File]:
        """Return at most `limit` uploaded files that no job has used since, oldest first.

        They were added before, and each job that uses them ended before.
        """

    def old_exports(self, *, ended_before: int, limit: int) -> list[Export]:
        """Return at most `limit` exports that ended before, oldest first.

        None of them holds a submission, whose process might still write.
        """

    def drop_unused_file(self, file_id: str, *, unused_since: int) -> bool:
        """Like `delete_file`, for a file that no job has used since.

        Raises `NotFoundError` where it is gone already, or used by now.
        """
