"""What an objective is, and how a model does by it on held-out examples.

An objective has a file of its own (`supervised.py`, `dpo.py`, `kto.py`) and says two
things of a micro-batch: by how many its sums are divided, and the sums. The
loop adds them up over the whole effective batch before it divides, so that the
division into micro-batches changes nothing. An objective whose losses hang on
each other is shown the whole batch beforehand (`Joint`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch

from tunesmith.training.examples import MicroBatch
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
    further: dict[str, float] = field(default_factory=dict)
    """Means of further numbers, by the field of `StepMetrics` that shows them in training."""


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


def evaluate(
    objective: Objective | Joint, network: Network, *, batches: Iterable[MicroBatch]
) -> Score:
    """Measure `network` on all `batches`, gone through once or twice, without dropout.

    Nothing is learnt.
    """
    loss, correct, count = 0.0, 0, 0
    further: dict[str, float] = {}
    network.model.eval()
    with torch.no_grad():
        measuring = for_batch(objective, network, batches=batches)
        for batch in batches:
            measured = measuring.measure(network, batch)
            loss += measured.loss.item()
            correct += measured.correct
            count += measuring.count(batch)
            for name, total in measured.further.items():
                further[name] = further.get(name, 0.0) + total
    network.model.train()
    means = {name: total / count for name, total in further.items()}
    return Score(loss=loss / count, accuracy=correct / count, further=means)
