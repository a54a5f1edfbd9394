"""What an objective is, and how a model does by it on held-out examples.

An objective has a file of its own (`supervised.py`, `dpo.py`) and says two
things of a micro-batch: by how many its sums are divided, and the sums. The
loop adds them up over the whole effective batch before it divides, so that the
division into micro-batches changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

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


def evaluate(objective: Objective, network: Network, *, held_out: Examples) -> Score:
    """Measure `network` on all `held_out` examples without dropout, learning nothing."""
    loss, correct, count = 0.0, 0, 0
    network.model.eval()
    with torch.no_grad():
        for batch in micro_batches(held_out, held_out.all):
            measured = objective.measure(network, batch)
            loss += measured.loss.item()
            correct += measured.correct
            count += objective.count(batch)
    network.model.train()
    return Score(loss=loss / count, accuracy=correct / count)
