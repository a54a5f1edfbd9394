"""Keeps jobs in memory: ended ones, which never change, and open ones, few of which do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tunesmith.domain.jobs import Job

_MOST = 5_000
"""Jobs that are kept, some 50 MB at 10 kB each."""

MOVING = frozenset(
    {
        "status",
        "estimated_finish",
        "attempt",
        "crashes",
        "submission_open",
        "stopping",
        "began_at",
        "run_seconds",
        "run_events_seen",
    }
)
"""Fields of an open job of which one at least changes whenever the job does."""

Mark = tuple[Any, ...]
"""What a row shows of itself at small cost; it is another one once the job has changed."""


class EndedJobs:
    """Jobs by the numbers of their rows. Threads may share it."""

    def __init__(self) -> None:
        """Begin with none."""
        self._jobs: dict[int, Job] = {}

    def known(self, numbers: Iterable[int]) -> dict[int, Job]:
        """Return those of the jobs at `numbers` that are kept."""
        kept = self._jobs
        return {number: kept[number] for number in numbers if number in kept}

    def keep(self, jobs: dict[int, Job]) -> None:
        """Keep those of `jobs` that have ended and let go of their submission."""
        if len(self._jobs) + len(jobs) > _MOST:
            # Another dictionary, since a thread may be reading this one.
            self._jobs = {}
        self._jobs.update(
            (number, job)
            for number, job in jobs.items()
            if job.status.terminal and not job.submission_open
        )


class OpenJobs:
    """Jobs by the numbers of their rows, each with the mark that its row had then."""

    def __init__(self) -> None:
        """Begin with none."""
        self._kept: dict[int, tuple[Mark, Job]] = {}

    def renew(
        self, marks: Iterable[tuple[int, Mark]], read: Callable[[list[int]], dict[int, Job]]
    ) -> list[Job]:
        """Return the jobs of the rows that `marks` names, in that order.

        `read` is asked for those whose mark is another than it was. All others are forgotten.
        """
        marked = dict(marks)
        before = self._kept
        changed = [
            number
            for number, mark in marked.items()
            if number not in before or before[number][0] != mark
        ]
        fresh = read(changed)
        # Another dictionary, since another thread may be reading this one.
        self._kept = {
            number: (mark, fresh[number]) if number in fresh else before[number]
            for number, mark in marked.items()
        }
        return [job for _, job in self._kept.values()]


class KeptJobs:
    """What one process keeps of all projects' jobs."""

    def __init__(self) -> None:
        """Begin with none."""
        self.ended = EndedJobs()
        """Jobs that have ended."""
        self.open = OpenJobs()
        """Jobs that have not, as they were at the last look at all of them."""
