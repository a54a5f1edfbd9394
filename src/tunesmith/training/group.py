"""The workers that train one run, as each of them sees them.

All ranks run the same code and take the same decisions, since whatever differs between them (what
they found, what a clock or a disk says) is exchanged before anything hangs on it. A rank that fails
says so in place of its next exchange, and so all end; one that is gone is noticed at the next one.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import distributed
from torch.distributed.tensor import DTensor

from tunesmith.domain.errors import TunesmithError
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.jobs import JobError
from tunesmith.training.examples import Examples, Indices
from tunesmith.training.failures import RunFailedError, explain, is_memory

if TYPE_CHECKING:
    from tunesmith.training.telemetry import Pass

Said = TypeVar("Said")
"""What ranks tell each other; it can be pickled."""

_NO_MEMORY = JobError(
    code=FailureCode.OUT_OF_MEMORY,
    message="A worker had no memory left for its part of the model. More workers make the parts "
    "smaller; while a checkpoint is put together, the first one needs memory for the whole.",
)

_BUCKET = 16 * 2**20
"""Numbers of the gradient that are summed at once, 64 MB."""


class PeerLostError(TunesmithError):
    """Another worker of the run is gone.

    It never leaves this room: the driver tells which one, and the run is launched again.
    """


class PeerFailedError(RunFailedError):
    """Another worker of the run has failed, for `error`."""

    def __init__(self, error: JobError) -> None:
        """Take what the client is told."""
        super().__init__(error.code, error.message, param=error.param, change=error.change)


class OutOfStepError(TunesmithError):
    """A worker broke off where the others wait for it.

    It never leaves this room: the driver ends the others, and tells what went wrong or goes on.
    """

    def __init__(self, error: JobError, limit: tuple[Pass, int] | None = None) -> None:
        """Take what the client is told if it ends the run.

        It does not with a `limit`, which is a pass and how many tokens of a micro-batch may fit
        into memory in it and behind it, where more did not.
        """
        super().__init__(error.message)
        self.error = error
        """What the client is told."""
        self.limit = limit
        """What the next attempt at the pass heeds; `None` where memory was not it."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Let the driver, another process, have all of it."""
        return type(self), (self.error, self.limit)


class Line(Protocol):
    """What connects the ranks. Each method raises `PeerLostError` where one of them is gone."""

    def gather(self, said: Any) -> list[Any]:
        """Return what each rank says, in their order; all have to call this."""

    def add_up(self, values: torch.Tensor) -> None:
        """Put the sum over all ranks in the place of `values`, fp32; all have to call this."""


class TorchLine:
    """The process group that torch has been set up with, as `Line`."""

    def gather(self, said: Any) -> list[Any]:
        """Return what each rank says; see `Line.gather`."""
        heard: list[Any] = [None] * distributed.get_world_size()
        with _noticing_loss():
            distributed.all_gather_object(heard, said)
        return heard

    def add_up(self, values: torch.Tensor) -> None:
        """Put the sum in the place of `values`; see `Line.add_up`."""
        with _noticing_loss():
            distributed.all_reduce(values)


@dataclass(frozen=True)
class _Word(Generic[Said]):
    said: Said | None
    failure: JobError | None = None


@dataclass(frozen=True)
class Group:
    """A rank among others, or one worker alone, who talks to nobody."""

    rank: int = 0
    """Which one this is, from 0; the first one writes what the run leaves behind."""
    size: int = 1
    """How many there are."""
    node: str = ""
    """Where this rank runs, for messages."""
    line: Line | None = None
    """What connects them; `None` for one alone."""

    @property
    def leads(self) -> bool:
        """Whether this is the first rank."""
        return self.rank == 0

    def exchange(self, said: Said) -> list[Said]:
        """Return what each rank says, in their order; all have to call this.

        Raises `PeerFailedError` where another rank has failed, `PeerLostError` where it is gone.
        """
        if self.line is None:
            return [said]
        words = self.line.gather(_Word(said))
        for word in words:
            if word.failure is not None:
                raise PeerFailedError(word.failure)
        return [word.said for word in words]

    def first(self, find: Callable[[], Said]) -> Said:
        """Return what `find` finds in the first rank; the others do not look. See `exchange`."""
        return self.exchange(find() if self.leads else None)[0]  # type: ignore[return-value]

    @contextmanager
    def ending_together(self) -> Iterator[None]:
        """Let none go on behind the block before all have come to its end, or one has failed."""
        try:
            yield
        except (OutOfStepError, PeerFailedError, PeerLostError):
            raise
        except Exception as error:
            if self.line is not None:
                with suppress(PeerLostError):
                    self.line.gather(_Word(None, explain(error)))
            raise
        self.exchange(None)

    def add_gradients(self, weights: Sequence[torch.nn.Parameter]) -> None:
        """Put the sum over all ranks in the place of each gradient of `weights`.

        A weight that no rank has a gradient of gets none.
        """
        if self.line is None:
            return
        known = torch.tensor([float(weight.grad is not None) for weight in weights])
        self.line.add_up(known)
        learnt = [weight for weight, ranks in zip(weights, known.tolist(), strict=True) if ranks]
        for bucket in _buckets(learnt):
            joined = torch.cat([_gradient(weight).flatten() for weight in bucket])
            self.line.add_up(joined)
            parts = torch.split(joined, [weight.numel() for weight in bucket])
            for weight, part in zip(bucket, parts, strict=True):
                weight.grad = part.view_as(weight)

    def leave_out_unused(self, weights: Sequence[torch.nn.Parameter]) -> None:
        """Take the gradient of each divided weight that no rank has used, which is zero, away.

        So the optimizer passes it over, as it does where one worker has no gradient of it.
        """
        if self.line is None:
            return
        parts = [weight.grad for weight in weights]
        used = torch.tensor(
            [0.0 if part is None else float(_local(part).count_nonzero() > 0) for part in parts]
        )
        self.line.add_up(used)
        for weight, ranks in zip(weights, used.tolist(), strict=True):
            if not ranks:
                weight.grad = None


ALONE = Group()
"""One worker, who has no others."""


@contextmanager
def in_step() -> Iterator[None]:
    """Let what goes wrong in the block, in whose middle workers wait for each other, say so.

    It becomes `OutOfStepError`, or `PeerLostError` where it is that another one is gone.
    """
    try:
        yield
    except (OutOfStepError, PeerLostError):
        raise
    except Exception as error:
        # Gloo says by its words alone that it was it.
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise PeerLostError(f"Another worker is gone: {error}") from error
        raise OutOfStepError(_NO_MEMORY if is_memory(error) else explain(error)) from error


def shares(examples: Examples, chosen: Indices, *, size: int) -> list[Indices]:
    """Divide the `chosen` examples among `size` ranks, each to one, by their tokens.

    The longest go first, each to the rank that has the least so far; a rank that there is nothing
    left for gets none. The order in a share is that of `chosen`.
    """
    if size == 1:
        return [chosen]
    tokens = (examples.ends - examples.starts)[chosen].sum(axis=1)
    owner = np.zeros(len(chosen), dtype=np.int64)
    loads = [(0, rank) for rank in range(size)]
    for at in np.argsort(-tokens, kind="stable"):
        load, rank = loads[0]
        owner[at] = rank
        heapq.heapreplace(loads, (load + int(tokens[at]), rank))
    return [chosen[owner == rank] for rank in range(size)]


@contextmanager
def _noticing_loss() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise PeerLostError(f"Another worker is gone: {error}") from error


def _local(part: torch.Tensor) -> torch.Tensor:
    """Return what this rank has of a tensor that may be divided."""
    return part.to_local() if isinstance(part, DTensor) else part


def _gradient(weight: torch.nn.Parameter) -> torch.Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight.grad


def _buckets(weights: Sequence[torch.nn.Parameter]) -> Iterator[list[torch.nn.Parameter]]:
    """Yield the `weights` in their order, at once as many as reach `_BUCKET`."""
    bucket: list[torch.nn.Parameter] = []
    for weight in weights:
        bucket.append(weight)
        if sum(each.numel() for each in bucket) >= _BUCKET:
            yield bucket
            bucket = []
    if bucket:
        yield bucket
