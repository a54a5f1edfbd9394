"""Keeps jobs in memory that have ended, since nothing about them changes any more."""

from __future__ import annotations

from collections.abc import Iterable

from tunesmith.domain.jobs import Job

_MOST = 5_000
"""Jobs that are kept, some 50 MB at 10 kB each."""


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
