"""The rerank objective: a cross-encoder scores the passage that answers above the others.

The model reads query and passage together and gives one number (Nogueira and Cho
2019, arXiv:1901.04085). The loss of a query is the cross-entropy of its answer among
the group of passages that the step drew (Gao et al. 2021, arXiv:2101.08751).
"""

from __future__ import annotations

import torch

from tunesmith.training.examples import MicroBatch
from tunesmith.training.network import Network
from tunesmith.training.objective import Measured
from tunesmith.training.ranks import each_query, losses, numbered, ranks


class Rerank:
    """Learns which passage answers; the loss is the mean over the queries."""

    def count(self, batch: MicroBatch) -> int:
        """Return the queries of `batch`."""
        return len(batch.examples)

    def measure(self, network: Network, batch: MicroBatch) -> Measured:
        """Return the sums of the losses and reciprocal ranks, and how many answers came first.

        The texts of each example are its pairs, that with the answer before the others.
        """
        scores = network.scores(batch).float().reshape(self.count(batch), -1)
        numbers = numbered([batch]).reshape(scores.shape)
        answers = torch.zeros(len(scores), dtype=torch.int64)
        found = ranks(scores, answers=answers, numbers=numbers)
        lost = losses(scores, answers=answers, numbers=numbers)
        return Measured(
            loss=lost.sum(),
            correct=int((found == 1).sum()),
            each=each_query(lost, found),
            further={"mrr": float((1 / found).sum())},
        )
