"""Which jobs are launched, which make room for others, and why the rest wait: a pure function.

Jobs have their turns as `fairness` orders them. The first that does not fit is the first in line:
it is promised the place where it will fit soonest, if the running jobs end when they should. Jobs
behind it go ahead only where that promise is kept all the same: on what the first in line leaves
free, or since their own deadline (`max_run_seconds`) comes before.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tunesmith.cluster.protocol import Amounts, Coming, Node
from tunesmith.controller.fairness import in_turn
from tunesmith.controller.growth import Growth, Needed
from tunesmith.controller.places import Places
from tunesmith.controller.room import Demand, Placement, Room, demand_of, in_words
from tunesmith.domain.devices import Device
from tunesmith.domain.jobs import Job, JobStatus
from tunesmith.domain.queue import Holder, Wait
from tunesmith.domain.spec import PRIORITIES

STOPPING = 15
"""Seconds in which an attempt that is to end is expected to have left its node."""
_HOLDERS = 5
"""Most jobs that a wait names."""
_FORESEEN = 50
"""Jobs from the first in line on whose start is foreseen."""
_YIELDED = "It is the next; jobs of lower priority make room for it."
"""Why a job waits for which no node needs to be added."""
_USUAL_COST = 3600.0
"""Seconds that a run is taken to last while nothing is known of any."""


@dataclass(frozen=True)
class Look:
    """All that the plan hangs on."""

    now: int
    """Unix seconds."""
    nodes: tuple[Node, ...]
    """The nodes that are alive."""
    jobs: Sequence[Job]
    """The open jobs, in the order in which they came."""
    places: Mapping[str, str]
    """Where an open attempt runs, by the job's id, as far as the cluster tells."""
    left: Collection[str]
    """Ids of the jobs whose open attempt is known to hold nothing any more."""
    used: Mapping[str, float]
    """Processor seconds that each project has used lately."""
    shares: Mapping[str, int]
    """Each project's share beside the others', where it is not 1."""
    usual: float | None
    """Seconds that runs took lately; `None` where none has ended."""
    held: str | None = None
    """Why nothing is launched, whatever fits, such as a full disk; `None` where nothing is."""
    coming: tuple[Coming, ...] = ()
    """What may be added to the nodes."""


@dataclass(frozen=True)
class Plan:
    """What is to be done with the jobs that wait."""

    admitted: tuple[str, ...]
    """Ids of the jobs that are to be launched now, in their turns; also of those that no node can
    hold, which are refused then."""
    yielding: frozenset[str]
    """Ids of the running jobs that are to make room for one of higher priority."""
    waiting: tuple[str, ...]
    """Ids of the other jobs that wait, in the order of their turns."""
    waits_of: Callable[[Container[str]], Iterator[Wait]]
    """Works out why those of the given ids wait, in the order of their turns: few passes need it,
    and of a long queue a part."""
    needed: Mapping[str, int]
    """How many nodes of each group the cluster is to be asked to add, by the group's name."""

    @property
    def waits(self) -> tuple[Wait, ...]:
        """Why each job waits that is not admitted, in the order of their turns."""
        return tuple(self.waits_of(self.waiting))


@dataclass(frozen=True)
class _Attempt:
    """An attempt that may be alive, and so holds its part of the cluster."""

    job: Job
    demand: Demand
    placement: Placement
    until: float
    """When it should end, in unix seconds; infinite where nothing says so."""

    @property
    def rank(self) -> int:
        return PRIORITIES.index(self.job.request.priority)


def plan(look: Look) -> Plan:
    """Return what is to be done now."""
    return _Planner(look).plan()


class _Planner:
    def __init__(self, look: Look) -> None:
        self._look = look
        added = [node for each in look.coming for node in each.nodes]
        self._places = Places(look.nodes, coming=added)
        self._demands: dict[str, Demand] = {}
        self._equal: dict[Demand, Demand] = {}
        self._whole = Room.whole(look.nodes)
        self._growth = Growth(self._whole, look.coming)
        self._needed = Needed()
        self._room = Room.whole(look.nodes)
        self._attempts = list(self._place_attempts())
        self._room.at_most(look.nodes)
        self._admitted: list[str] = []
        self._waiting: list[tuple[Job, str]] = []
        self._promise: _Promise | None = None
        self._yielding: list[_Attempt] = []
        # Room only shrinks within a plan: what did not fit once does not fit later.
        self._too_large: set[Demand] = set()
        # What fits now does so until something is taken: of many jobs with the same demand that
        # find all of it kept for the first in line, only one looks through the nodes.
        self._fits: dict[Demand, Placement] = {}
        self._too_large_beside: set[Demand] = set()
        self._impossible: dict[Demand, bool] = {}

    def plan(self) -> Plan:
        waiting = [job for job in self._look.jobs if job.waits]
        turns = in_turn(waiting, self._look.used, shares=self._look.shares, cost=self._cost)
        for job in turns:
            reason = self._turn(job, self._demand(job))
            if reason is None:
                self._admitted.append(job.id)
            else:
                self._waiting.append((job, reason))
        lacking = (
            (job.id, self._demand(job)) for job, reason in self._waiting if reason != _YIELDED
        )
        if self._look.held is None:
            self._needed = self._growth.needed(self._room, lacking)
        return Plan(
            admitted=tuple(self._admitted),
            yielding=frozenset(attempt.job.id for attempt in self._yielding),
            waiting=tuple(job.id for job, _ in self._waiting),
            waits_of=self._waits,
            needed=self._needed.nodes,
        )

    def _turn(self, job: Job, demand: Demand) -> str | None:
        """Give `job` its turn: `None` where it is launched, or why it waits."""
        if self._places.on(Device.CPU).largest < 1 and not self._look.coming:
            return "The cluster has no node with a processor yet."
        if self._cannot_hold(demand):
            if self._growth.can_hold(demand):
                return self._look.held or "No node that is there can hold it."
            # A job that never ran is refused, with the reason; one that ran waits for its node.
            return "No node that is there now can hold it." if job.attempt else None
        if self._look.held is not None:
            return self._look.held
        if self._promise is not None:
            return self._behind(job, demand, promise=self._promise)
        placement = self._fitting(demand)
        if placement is not None:
            self._take(placement, demand)
            return None
        self._promise = self._promised(demand)
        self._yielding = self._making_room(job, demand)
        if self._yielding:
            return _YIELDED
        return "It is the next, and lacks {missing}."

    def _behind(self, job: Job, demand: Demand, *, promise: _Promise) -> str | None:
        placement = self._fitting(demand)
        if placement is None:
            return "It lacks {missing}."
        if not self._deadline(job) <= promise.at < math.inf:
            placement = self._beside(placement, demand, promise=promise)
            if placement is None:
                return "What is free is kept for the job that is the next."
            promise.room.take(placement, demand)
        self._take(placement, demand)
        return None

    def _take(self, placement: Placement, demand: Demand) -> None:
        self._room.take(placement, demand)
        self._fits.clear()

    def _beside(
        self, placement: Placement, demand: Demand, *, promise: _Promise
    ) -> Placement | None:
        """Return where `demand` fits now and beside the first in line too, such as `placement`."""
        if promise.room.has(placement, demand):
            return placement
        if demand in self._too_large_beside:
            return None
        other = promise.room.placement(demand)
        if other is not None and self._room.has(other, demand):
            return other
        self._too_large_beside.add(demand)
        return None

    def _fitting(self, demand: Demand) -> Placement | None:
        if demand in self._too_large:
            return None
        placement = self._fits.get(demand) or self._room.placement(demand)
        if placement is None:
            self._too_large.add(demand)
        else:
            self._fits[demand] = placement
        return placement

    def _cannot_hold(self, demand: Demand) -> bool:
        if demand not in self._impossible:
            self._impossible[demand] = self._whole.placement(demand) is None
        return self._impossible[demand]

    def _promised(self, demand: Demand) -> _Promise:
        """Return where and when the first in line will fit, as far as attempts tell their end."""
        room, at = self._room.copy(), float(self._look.now)
        for attempt in self._endings:
            placement = room.placement(demand)
            if placement is not None:
                break
            room.give(attempt.placement, attempt.demand)
            at = attempt.until
        else:
            placement = room.placement(demand)
        if placement is None:
            # Something that is not ours holds it, until an unknown time.
            room, at = self._whole.copy(), math.inf
            placement = room.placement(demand) or ()
        room.take(placement, demand)
        return _Promise(at, room)

    def _making_room(self, job: Job, demand: Demand) -> list[_Attempt]:
        """Return the attempts of lower priority that are to end so that `job` fits.

        The lowest priority goes first, and of these the one that began last. Nothing ends where
        that is not enough, or where what is ending already is.
        """
        rank = PRIORITIES.index(job.request.priority)
        room = self._room.copy()
        for attempt in self._attempts:
            if attempt.job.stopping or attempt.job.status.terminal:
                room.give(attempt.placement, attempt.demand)
        lower = [
            attempt
            for attempt in self._attempts
            if attempt.rank < rank
            and attempt.job.status is JobStatus.RUNNING
            and not attempt.job.stopping
        ]
        lower.sort(key=lambda attempt: (attempt.rank, -(attempt.job.began_at or 0)))
        chosen: list[_Attempt] = []
        while room.placement(demand) is None and len(chosen) < len(lower):
            attempt = lower[len(chosen)]
            room.give(attempt.placement, attempt.demand)
            chosen.append(attempt)
        placement = room.placement(demand)
        if placement is None:
            return []
        return [attempt for attempt in chosen if set(attempt.placement) & set(placement)]

    def _waits(self, wanted: Container[str]) -> Iterator[Wait]:
        starts = self._starts()
        # What keeps all back is no job's.
        holders = self._holders if self._look.held is None else ()
        for position, (job, reason) in enumerate(self._waiting, start=1):
            if job.id not in wanted:
                continue
            missing, words = self._missing(self._demand(job))
            yield Wait(
                job_id=job.id,
                position=position,
                reason=reason.format(missing=words) + self._needed.words(job.id),
                missing=missing,
                held_by=holders,
                expected_start=starts.get(job.id),
            )

    def _starts(self) -> dict[str, int]:
        """Return when the first jobs in line should start, in their turns, as far as is known."""
        if self._look.held is not None:
            return {}
        room, endings = (
            self._room.copy(),
            [(each.until, number) for number, each in enumerate(self._endings)],
        )
        holding = [(each.placement, each.demand) for each in self._endings]
        heapq.heapify(endings)
        at, starts = float(self._look.now), {}
        for job, _ in self._waiting[:_FORESEEN]:
            demand = self._demand(job)
            if self._cannot_hold(demand):
                continue
            while (placement := room.placement(demand)) is None and endings:
                at, number = heapq.heappop(endings)
                room.give(*holding[number])
            if placement is None or at == math.inf:
                break
            starts[job.id] = int(at)
            room.take(placement, demand)
            heapq.heappush(endings, (at + self._length(job), len(holding)))
            holding.append((placement, demand))
        return starts

    @cached_property
    def _endings(self) -> list[_Attempt]:
        return sorted(self._attempts, key=lambda attempt: attempt.until)

    @cached_property
    def _holders(self) -> tuple[Holder, ...]:
        return tuple(
            Holder(
                job_id=attempt.job.id,
                project=attempt.job.project,
                resources=attempt.demand.total,
                until=int(attempt.until) if attempt.until < math.inf else None,
            )
            for attempt in self._endings[:_HOLDERS]
        )

    def _missing(self, demand: Demand) -> tuple[Amounts, str]:
        """Return what `demand` lacks, and the same for people."""
        if demand not in self._lacks:
            missing = self._room.missing(demand)
            self._lacks[demand] = missing, in_words(missing)
        return self._lacks[demand]

    @cached_property
    def _lacks(self) -> dict[Demand, tuple[Amounts, str]]:
        return {}

    def _place_attempts(self) -> Iterator[_Attempt]:
        """Take what open attempts hold; where one runs is guessed as long as nobody knows."""
        left = self._look.left
        held = [job for job in self._look.jobs if job.submission_open and job.id not in left]
        for job in sorted(held, key=lambda job: job.id not in self._look.places):
            demand, node = self._demand(job), self._look.places.get(job.id)
            # The node of a job with several workers is that of their driver, which holds nothing.
            known = node is not None and demand.workers == 1
            placement = (node,) if node and known else self._room.placement(demand) or ()
            self._room.take(placement, demand)
            yield _Attempt(job, demand, placement, self._until(job))

    def _until(self, job: Job) -> float:
        if job.stopping or job.status.terminal:
            return float(self._look.now + STOPPING)
        if job.status is not JobStatus.RUNNING:
            return self._look.now + self._length(job)
        ends = [self._deadline(job)]
        if job.estimated_finish is not None:
            ends.append(float(job.estimated_finish))
        return max(min(ends), float(self._look.now))

    def _deadline(self, job: Job) -> float:
        """Return when `job` will have left at the latest, if it is launched now or runs already."""
        if job.request.max_run_seconds is None:
            return math.inf
        gone = self._look.now - job.began_at if job.began_at else 0
        return self._look.now + job.request.max_run_seconds - job.run_seconds - gone + STOPPING

    def _length(self, job: Job) -> float:
        """Return how long `job` should run, in seconds; infinite where nothing tells."""
        usual = math.inf if self._look.usual is None else self._look.usual
        return min(self._deadline(job) - self._look.now, usual)

    def _cost(self, job: Job) -> float:
        length = self._length(job)
        return self._demand(job).cpus * (length if length < math.inf else _USUAL_COST)

    def _demand(self, job: Job) -> Demand:
        if job.id not in self._demands:
            demand = demand_of(job, places=self._places)
            # One object for all that are equal, which works its sums out but once.
            self._demands[job.id] = self._equal.setdefault(demand, demand)
        return self._demands[job.id]


@dataclass(frozen=True)
class _Promise:
    """When the first in line will fit, and what is free then beside it."""

    at: float
    room: Room
