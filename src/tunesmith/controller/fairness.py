"""In which order jobs wait: by priority, then fair between projects, then as they came."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tunesmith.domain.jobs import Job
from tunesmith.domain.spec import PRIORITIES

HALF_LIFE = 24 * 3600
"""Seconds after which used compute counts half."""


@dataclass
class Ledger:
    """Processor seconds that each project has used lately; those of a day ago count half."""

    at: float
    """Unix seconds up to which `used` counts."""
    used: dict[str, float] = field(default_factory=dict)
    """Processor seconds by project."""

    def remember(self, jobs: Iterable[tuple[Job, float]]) -> None:
        """Count runs of before, each with its processors, as if all of it were used at its end."""
        for job, cpus in jobs:
            since = self.at - (self.at if job.finished_at is None else job.finished_at)
            seconds = job.run_seconds * 0.5 ** (since / HALF_LIFE)
            self.used[job.project] = self.used.get(job.project, 0.0) + cpus * seconds

    def pass_to(self, now: float, holding: Mapping[str, float]) -> None:
        """Let time go on to `now`, in which each project held so many processors."""
        seconds = max(now - self.at, 0.0)
        self.at = now
        for project in self.used:
            self.used[project] *= 0.5 ** (seconds / HALF_LIFE)
        for project, cpus in holding.items():
            self.used[project] = self.used.get(project, 0.0) + cpus * seconds


def in_turn(
    jobs: Iterable[Job],
    used: Mapping[str, float],
    *,
    shares: Mapping[str, int],
    cost: Callable[[Job], float],
) -> Iterator[Job]:
    """Yield `jobs`, given in the order in which they came, in the order of their turns.

    Higher priorities come first. Within one, the next job is of the project that has `used` least
    for its share; each turn counts the `cost` of its job, in processor seconds, as used.
    """
    waiting: dict[int, dict[str, deque[tuple[int, Job]]]] = {}
    for number, job in enumerate(jobs):
        rank = PRIORITIES.index(job.request.priority)
        waiting.setdefault(rank, {}).setdefault(job.project, deque()).append((number, job))
    spent = dict(used)
    for rank in sorted(waiting, reverse=True):
        lines = waiting[rank]

        def turn(project: str, lines: dict[str, deque[tuple[int, Job]]] = lines) -> _Turn:
            return spent.get(project, 0.0) / shares.get(project, 1), lines[project][0][0], project

        turns = [turn(project) for project in lines]
        heapq.heapify(turns)
        while turns:
            _, _, project = heapq.heappop(turns)
            _, job = lines[project].popleft()
            yield job
            spent[project] = spent.get(project, 0.0) + cost(job)
            if lines[project]:
                heapq.heappush(turns, turn(project))


_Turn = tuple[float, int, str]
"""What a project has used for its share, the place of its next job among all, and its name."""
