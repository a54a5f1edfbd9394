"""How a model does by each held-out example, where evaluations tell the mean alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from tunesmith.training.examples import Examples, Indices
from tunesmith.training.fitting import Division, Room, fitting
from tunesmith.training.objective import Joint, Objective, for_batch
from tunesmith.training.telemetry import Pass

Numbers = npt.NDArray[np.float64]
"""A number for each example."""

HIGHEST = 1000.0
"""What a loss that is not a finite number counts for, in nats."""


@dataclass(frozen=True)
class ByExample:
    """Sums over each example, or over each line."""

    losses: Numbers
    """Sum of the losses, in nats."""
    right: Numbers
    """How many the model got right."""
    counts: Numbers
    """How many losses there are."""
    further: Mapping[str, Numbers]
    """Sums of further numbers by their names."""

    @classmethod
    def of(cls, columns: Mapping[str, Numbers]) -> ByExample:
        """Return what `columns` was made of."""
        further = {name[2:]: values for name, values in columns.items() if name[:2] == "f."}
        return cls(columns["losses"], columns["right"], columns["counts"], further)

    @property
    def columns(self) -> dict[str, Numbers]:
        """All numbers by names of their own."""
        own = {"losses": self.losses, "right": self.right, "counts": self.counts}
        return own | {f"f.{name}": values for name, values in self.further.items()}

    @property
    def means(self) -> Numbers:
        """The mean loss of each, in nats; of one that has no loss, 0."""
        means: Numbers = self.losses / np.maximum(self.counts, 1)
        return means

    def by_row(self, rows: Indices) -> ByExample:
        """Return the sums over each of the `rows`, by numbers that begin at 0."""
        columns: dict[str, Numbers] = {
            name: np.bincount(rows, values).astype(np.float64)
            for name, values in self.columns.items()
        }
        return ByExample.of(columns)


def measure_each(
    objective: Objective | Joint,
    examples: Examples,
    *,
    room: Room,
    step: int,
    file: Literal["training", "validation"],
) -> ByExample:
    """Return how the network of `room` does by each of `examples`, without dropout.

    All ranks call this and get the same. The network has taken `step` steps; nothing is learnt.
    """
    network = room.network

    def find(batches: Division) -> dict[str, Numbers]:
        found: dict[str, Numbers] = {}
        with torch.no_grad():
            measuring = for_batch(objective, network, batches=batches.of_all())
            for batch in batches:
                each = measuring.measure(network, batch).each
                for name, values in each.columns.items():
                    whole = found.setdefault(name, np.zeros(len(examples)))
                    known = values.detach().double().cpu().numpy()
                    whole[batch.examples] = np.bincount(
                        each.examples.cpu().numpy(), known, minlength=len(batch.examples)
                    )
        return found

    network.model.eval()
    parts = fitting(
        find, examples, chosen=examples.all, room=room, of=Pass(step, "evaluation"), file=file
    )
    network.model.train()
    return _finite(_added(parts, len(examples)))


def _added(parts: Sequence[Mapping[str, Numbers]], count: int) -> ByExample:
    """Return the sums of what each rank found, of which each example is one rank's."""
    names = {name: None for part in parts for name in part}
    nothing = np.zeros(count)
    columns = {name: np.sum([part.get(name, nothing) for part in parts], axis=0) for name in names}
    return ByExample.of(columns)


def _finite(found: ByExample) -> ByExample:
    losses = np.where(np.isfinite(found.losses), found.losses, HIGHEST * found.counts)
    further = {name: np.nan_to_num(column) for name, column in found.further.items()}
    return ByExample(losses, found.right, found.counts, further)
