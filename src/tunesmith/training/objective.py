"""What an objective is, and how a model does by it on held-out examples.

An objective has a file of its own (`supervised.py`, `dpo.py`, `kto.py`) and says two
things of a micro-batch: by how many its sums are divided, and the sums. The
loop adds them up over the whole effective batch before it divides, so that the
division into micro-batches changes nothing. Where the loss of one example hangs
on the others of the batch, the objective is first shown all of it (`OfWhole`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch

from tunesmith.training.examples import Examples, MicroBatch, micro_batches
from tunesmith.training.network import Network


@dataclass(frozen=True)
class Measured:
    """Sums over a micro-batch."""

    loss: torch.Tensor
    """Sum of the losses, in nats; a scalar with its gradient."""
    correct: int
    """How many the model got right."""
    further: dict[str, float] = field(default_factory=dict)
    """Sums of further numbers, by the field of `StepMetrics` that shows their mean."""


@dataclass(frozen=True)
class Score:
    """Means over some examples."""

    loss: float
    """Mean loss, in nats."""
    accuracy: float
    """Share that the model got right."""


class Objective(Protocol):
    """What is learnt."""

    def count(self, batch: MicroBatch) -> int:
        """Return how many losses `batch` has, of which the mean is taken."""

    def measure(self, network: Network, batch: MicroBatch) -> Measured:
        """Send `batch` through `network`, a causal language model with or without adapter."""


@runtime_checkable
class OfWhole(Objective, Protocol):
    """An objective whose losses hang on the whole of what their mean is taken over."""

    def over(self, network: Network, batches: Iterable[MicroBatch]) -> Objective:
        """Return the objective that measures each of `batches` as a part of them all."""


def knowing(objective: Objective, network: Network, *, batches: Iterable[MicroBatch]) -> Objective:
    """Return `objective` with what it must know of all `batches` before it measures one."""
    return objective.over(network, batches) if isinstance(objective, OfWhole) else objective


def evaluate(objective: Objective, network: Network, *, held_out: Examples) -> Score:
    """Measure `network` on all `held_out` examples without dropout, learning nothing."""
    loss, correct, count = 0.0, 0, 0
    network.model.eval()
    whole = knowing(objective, network, batches=micro_batches(held_out, held_out.all))
    with torch.no_grad():
        for batch in micro_batches(held_out, held_out.all):
            measured = whole.measure(network, batch)
            loss += measured.loss.item()
            correct += measured.correct
            count += objective.count(batch)
    network.model.train()
    return Score(loss=loss / count, accuracy=correct / count)
