"""What an objective is, and how a model does by it on held-out examples.

An objective has a file of its own (`supervised.py`, `dpo.py`, `kto.py`) and says two
things of a micro-batch: by how many its sums are divided, and the sums. The
loop adds them up over the whole effective batch before it divides, so that the
division into micro-batches changes nothing. An objective whose losses hang on
each other is shown the whole batch beforehand (`Joint`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch

from tunesmith.training.examples import MicroBatch
from tunesmith.training.fitting import Division
from tunesmith.training.network import Network


@dataclass(frozen=True)
class Each:
    """The losses of a micro-batch one by one, without their gradients."""

    examples: torch.Tensor
    """Which example of the micro-batch each is of, from 0, (losses,), int64."""
    losses: torch.Tensor
    """The losses, in nats, (losses,)."""
    right: torch.Tensor
    """Whether the model got it right, from 0 to 1, (losses,)."""
    further: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Further numbers by their names, (losses,) each."""

    @property
    def columns(self) -> dict[str, torch.Tensor]:
        """All numbers, and a 1 for each loss, by the names that `ByExample` has for their sums."""
        own = {
            "losses": self.losses,
            "right": self.right,
            "counts": torch.ones(len(self.losses), dtype=torch.float64),
        }
        return own | {f"f.{name}": values for name, values in self.further.items()}


@dataclass(frozen=True)
class Measured:
    """Sums over a micro-batch."""

    loss: torch.Tensor
    """Sum of the losses, in nats; a scalar with its gradient."""
    correct: int
    """How many the model got right."""
    each: Each
    """What was summed."""
    further: dict[str, float] = field(default_factory=dict)
    """Sums of further numbers, by the field of `StepMetrics` that shows their mean."""


@dataclass(frozen=True)
class Sums:
    """Sums over some examples."""

    loss: float
    """Sum of the losses, in nats."""
    correct: int
    """How many the model got right."""
    count: int
    """How many losses there are."""
    further: dict[str, float] = field(default_factory=dict)
    """Sums of further numbers, by the field of `StepMetrics` that shows their mean."""

    @classmethod
    def of(cls, parts: Sequence[Sums]) -> Sums:
        """Return the sums over all `parts`."""
        return cls(
            loss=sum(part.loss for part in parts),
            correct=sum(part.correct for part in parts),
            count=sum(part.count for part in parts),
            further=added(part.further for part in parts),
        )

    @property
    def mean(self) -> Score:
        """The means, of at least one loss."""
        means = {name: total / self.count for name, total in self.further.items()}
        return Score(self.loss / self.count, self.correct / self.count, means)


@dataclass(frozen=True)
class Score:
    """Means over some examples."""

    loss: float
    """Mean loss, in nats."""
    accuracy: float
    """Share that the model got right."""
    further: dict[str, float] = field(default_factory=dict)
    """Means of further numbers, by the field of `StepMetrics` that shows them in training."""

    @classmethod
    def of_shares(cls, parts: Sequence[Score]) -> Score:
        """Return the means of which each of `parts` has what one share adds to them."""
        return cls(
            loss=sum(part.loss for part in parts),
            accuracy=sum(part.accuracy for part in parts),
            further=added(part.further for part in parts),
        )


class Objective(Protocol):
    """What is learnt."""

    def count(self, batch: MicroBatch) -> int:
        """Return how many losses `batch` has, of which the mean is taken."""

    def measure(self, network: Network, batch: MicroBatch) -> Measured:
        """Send `batch` through `network`, whose model is of the kind that the method tunes."""


@runtime_checkable
class Joint(Protocol):
    """What is learnt, where each loss hangs on the other examples of the whole batch."""

    def whole(self, network: Network, batches: Iterable[MicroBatch]) -> Objective:
        """Return what measures the micro-batches of one whole batch, which are `batches`."""


def for_batch(
    objective: Objective | Joint, network: Network, *, batches: Iterable[MicroBatch]
) -> Objective:
    """Return what measures the micro-batches of one whole batch, which are `batches`."""
    return objective.whole(network, batches) if isinstance(objective, Joint) else objective


def added(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the sums of the numbers of `parts`, name by name."""
    sums: dict[str, float] = {}
    for part in parts:
        for name, total in part.items():
            sums[name] = sums.get(name, 0.0) + total
    return sums


def evaluate(objective: Objective | Joint, network: Network, *, batches: Division) -> Sums:
    """Measure `network` on this rank's `batches`, gone through once or twice, without dropout.

    Nothing is learnt.
    """
    loss, correct, count = 0.0, 0, 0
    further: dict[str, float] = {}
    network.model.eval()
    with torch.no_grad():
        measuring = for_batch(objective, network, batches=batches.of_all())
        for batch in batches:
            measured = measuring.measure(network, batch)
            loss += measured.loss.item()
            correct += measured.correct
            count += measuring.count(batch)
            further = added([further, measured.further])
    network.model.train()
    return Sums(loss, correct, count, further)
