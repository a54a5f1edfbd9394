"""Shares what goes through the model, and cuts it smaller where it does not fit into memory.

Steps, evaluations and the reference of pairs all go through the model this way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from tunesmith.dataset.problems import place
from tunesmith.domain.changes import first_change, in_words, less_memory
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.jobs import JobError
from tunesmith.domain.spec import TrainSpec
from tunesmith.training.examples import Examples, Indices, MicroBatch, micro_batches
from tunesmith.training.failures import RunFailedError, is_memory
from tunesmith.training.group import ALONE, Group, OutOfStepError, in_step, shares
from tunesmith.training.network import Network
from tunesmith.training.stopping import StopFlag
from tunesmith.training.telemetry import EventLog, Pass

Found = TypeVar("Found")
"""What a pass finds."""


@dataclass(frozen=True)
class Room:
    """What it takes to cut a pass smaller, and to say so."""

    spec: TrainSpec
    """What was asked for, of which a failure names a smaller setting."""
    network: Network
    """What the examples go through."""
    events: EventLog
    """What the run says."""
    stop: StopFlag
    """Ends the process between two writes."""
    group: Group = ALONE
    """Who shares the passes."""


class Division:
    """Examples in micro-batches, which are made anew each time that one goes through them."""

    def __init__(
        self,
        examples: Examples,
        chosen: Indices,
        *,
        most: int | None = None,
        padding: int | None = 1,
        group: Group = ALONE,
        idle: Callable[[MicroBatch], object] | None = None,
    ) -> None:
        """Share the `chosen` examples in `group`, and cut each share as `micro_batches` does.

        Where ranks go through the model in step, one that has fewer micro-batches than another
        does something `idle` with a short one for each that it lacks.
        """
        self._examples = examples
        self._shares = shares(examples, chosen, size=group.size)
        self._own = self._shares[group.rank]
        self._chosen, self._idle = chosen, idle
        self._most, self._padding = most, padding
        self.reached: MicroBatch | None = None
        """The one that is gone through now; `None` before the first, and behind the last."""

    def __iter__(self) -> Iterator[MicroBatch]:
        """Yield this rank's micro-batches, longest first."""
        count = 0
        for batch in self._cut(self._own):
            yield batch
            count += 1
        if self._idle is not None and len(self._chosen):
            most = max(sum(1 for _ in self._cut(share)) for share in self._shares)
            shortest = self._chosen[[np.argmin(self._examples.lengths[self._chosen])]]
            for batch in self._cut(shortest):
                # No line is at fault where there is no room for this.
                self.reached = None
                for _ in range(most - count):
                    self._idle(batch)

    def of_all(self) -> Iterator[MicroBatch]:
        """Yield the micro-batches of all ranks, one rank's behind another's."""
        for share in self._shares:
            yield from self._cut(share)

    def _cut(self, share: Indices) -> Iterator[MicroBatch]:
        for batch in micro_batches(self._examples, share, most=self._most, padding=self._padding):
            self.reached = batch
            yield batch
            self.reached = None


def fitting(
    find: Callable[[Division], Found],
    examples: Examples,
    *,
    chosen: Indices,
    room: Room,
    of: Pass,
    file: Literal["training", "validation"] = "training",
) -> list[Found]:
    """Return what each rank finds by `find` in its share of the `chosen` examples.

    The share comes in micro-batches that fit into memory: all ranks begin again with smaller ones
    where one does not. Each time the greatest number of tokens is halved at least, so that it comes
    to an end: at a single example that does not fit, `RunFailedError` names its line of the `file`.

    Where ranks go through the model in step, one that breaks off raises `OutOfStepError`, which
    says all this to the driver.
    """
    while True:
        network = room.network
        most = room.events.most_tokens(of) or network.most_tokens
        batches = Division(
            examples,
            chosen,
            most=most,
            padding=network.padding,
            group=room.group,
            idle=network.pass_idle if network.in_step else None,
        )
        if network.in_step:
            # Whoever has failed since the last pass says so here, before it is waited for.
            room.group.exchange(None)
        with in_step() if network.in_step else nullcontext():
            try:
                found, too_many = [find(batches)], 0
            except (MemoryError, RuntimeError) as error:
                large = batches.reached
                if not is_memory(error) or large is None:
                    raise
                if len(large.examples) == 1:
                    raise _lone(large, examples, room=room, of=of, file=file) from error
                found, too_many = [], large.tokens
                if network.in_step:
                    raise _out_of_step(large, of=of) from error
        # Behind the handler, since the error holds on to all that the pass had in memory.
        all_found = room.group.exchange((found, too_many))
        too_many = max(tokens for _, tokens in all_found)
        if not too_many:
            return [each for (each,), _ in all_found]
        room.network.forget()
        with room.stop.whole():
            room.events.too_large(of, most=too_many // 2)


def _out_of_step(large: MicroBatch, *, of: Pass) -> OutOfStepError:
    text = f"A micro-batch of {large.tokens} tokens does not fit into memory in {of.name}."
    error = JobError(code=FailureCode.OUT_OF_MEMORY, message=text)
    return OutOfStepError(error, limit=(of, large.tokens // 2))


def _lone(
    batch: MicroBatch, examples: Examples, *, room: Room, of: Pass, file: str
) -> RunFailedError:
    (at,), longest = batch.examples, max(batch.lengths)
    where = place(int(examples.lines[at]), int(examples.elements[at]))
    mends = less_memory(room.spec, tokens=longest, learning=of.learns)
    return RunFailedError(
        FailureCode.OUT_OF_MEMORY,
        f"{where} of the {file} file, {longest} tokens long, does not fit into memory in "
        f"{of.name}, though it goes through the model alone. {in_words(mends)}",
        change=first_change(mends),
    )
