"""The queue as it stands: what is planned in each pass, and what waiting jobs are told of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Mapping, Sequence
from itertools import islice
from statistics import fmean

from tunesmith.cluster.protocol import Resources, SubmissionState, SubmissionStatus
from tunesmith.controller.doors import Doors
from tunesmith.controller.fairness import HALF_LIFE, Ledger
from tunesmith.controller.places import Places
from tunesmith.controller.queue import Look, Plan, plan
from tunesmith.controller.room import demand_of
from tunesmith.domain.jobs import Job, JobStatus
from tunesmith.domain.queue import Wait

TOLD_EVERY = 2
"""Seconds between two times that waiting jobs are told anew."""
TOLD_AT_ONCE = 500
"""Jobs from the first in line on that are always told. Of those behind them as many are told each
time, one after another, since a place in a long queue changes with each launch before it: of
10,000 jobs, each has heard what is new within 40 seconds."""
_UNKNOWN_AT_ONCE = 2000
"""Of the jobs that know nothing yet, most that are told at once. There are more where a controller
begins with a long queue that nobody has looked at, all of which within a pass would take long."""
_LOOKED_UP_EVERY = 30
"""Seconds between two looks at the projects' shares and at what has ended."""
_REMEMBERED = 3 * HALF_LIFE
"""Seconds of the past that a controller that starts looks back on."""
_RUNS = 50
"""Ended runs whose lengths are thought of as usual."""


class Turns:
    """Plans each pass, and remembers from one to the next what the plan hangs on."""

    def __init__(self, doors: Doors) -> None:
        """Look up what was used before, and what was told, in the store of `doors`."""
        self._store = doors.store
        self._ledger: Ledger | None = None
        self._lengths: deque[int] = deque(maxlen=_RUNS)
        self._shares: dict[str, int] = {}
        self._looked_up: int | None = None
        self._told: dict[str, Wait] | None = None
        self._told_at = 0
        self._told_to = 0

    def plan(
        self,
        jobs: Sequence[Job],
        resources: Resources,
        *,
        statuses: Mapping[str, SubmissionStatus | None],
        now: int,
        held: str | None = None,
    ) -> Plan:
        """Return what is to be done with the waiting ones of `jobs`, all that are open.

        `statuses` has those of the open attempts, by the job's id; `held` says why nothing is to be
        launched.
        """
        coming = [node for each in resources.coming for node in each.nodes]
        nodes = Places(resources.nodes, coming=coming)
        self._look_up(now, nodes=nodes)
        holding: dict[str, float] = {}
        for job in jobs:
            if job.submission_open and job.status is JobStatus.RUNNING:
                cpus = demand_of(job, places=nodes).cpus
                holding[job.project] = holding.get(job.project, 0.0) + cpus
        assert self._ledger is not None  # noqa: S101  looked up above
        self._ledger.pass_to(now, holding)
        places = {
            job_id: status.node
            for job_id, status in statuses.items()
            if status is not None and status.node and status.state is SubmissionState.RUNNING
        }
        planned = plan(
            Look(
                now=now,
                nodes=resources.nodes,
                coming=resources.coming,
                jobs=jobs,
                places=places,
                left=frozenset(
                    job.id for job in jobs if job.submission_open and _has_left(job, statuses)
                ),
                used=self._ledger.used,
                shares=self._shares,
                usual=fmean(self._lengths) if self._lengths else None,
                held=held,
            )
        )
        self._tell(planned, now=now)
        return planned

    def _look_up(self, now: int, *, nodes: Places) -> None:
        if self._looked_up is not None and now < self._looked_up + _LOOKED_UP_EVERY:
            return
        since = now - _REMEMBERED if self._looked_up is None else self._looked_up
        ended = self._store.jobs_ended_since(since)
        self._lengths.extend(job.run_seconds for job in ended if job.status is JobStatus.SUCCEEDED)
        if self._ledger is None:
            self._ledger = Ledger(at=now)
            self._ledger.remember((job, demand_of(job, places=nodes).cpus) for job in ended)
        self._shares = {
            project.name: project.share for project in self._store.list_projects() if project.share
        }
        self._looked_up = now

    def _tell(self, planned: Plan, *, now: int) -> None:
        """Now and then, tell those whose wait is another than was told."""
        if self._told is None:
            self._told = {wait.job_id: wait for wait in self._store.all_waits()}
        if now < self._told_at + TOLD_EVERY:
            return
        told, over = self._told, self._told.keys() - set(planned.waiting)
        next_ones = self._next_ones(planned.waiting, told=told)
        news = [wait for wait in planned.waits_of(next_ones) if told.get(wait.job_id) != wait]
        if news or over:
            self._store.tell_waits(news, over=over)
        for job_id in over:
            del told[job_id]
        told |= {wait.job_id: wait for wait in news}
        self._told_at = now

    def _next_ones(self, waiting: Sequence[str], *, told: Container[str]) -> set[str]:
        """Return who is told now what is new to him.

        They are the first of those who are `waiting`, the first of those who know nothing yet, and
        of the rest the next ones.
        """
        first = max(self._told_to, TOLD_AT_ONCE)
        last = first + TOLD_AT_ONCE
        self._told_to = last if last < len(waiting) else 0
        unknown = (job_id for job_id in waiting if job_id not in told)
        return {*waiting[:TOLD_AT_ONCE], *waiting[first:last], *islice(unknown, _UNKNOWN_AT_ONCE)}


def _has_left(job: Job, statuses: Mapping[str, SubmissionStatus | None]) -> bool:
    """Tell whether the open attempt of `job` holds nothing; one not submitted yet soon will."""
    status = statuses.get(job.id)
    if status is None:
        return job.status is not JobStatus.QUEUED
    return status.state.ended
