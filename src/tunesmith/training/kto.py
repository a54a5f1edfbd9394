"""Kahneman-Tversky optimization: each answer is worth more, or less, than the usual one.

Ethayarajh et al. 2024, arXiv:2402.01306, equation 8. With what an answer gained
in log-probability since the start, and z, how far the model has moved as a whole,
the loss is

    desirable_weight * (1 - sigmoid(beta * (gain - z)))     of a preferred answer,
    undesirable_weight * (1 - sigmoid(beta * (z - gain)))   of the other one.

z is the divergence (Kullback-Leibler) from the reference, which nothing is learnt
through. From pairs it is estimated by the mean gain of the answers of the other
kind, and taken as 0 where that is below: for the preferred answers from the other
ones, and the other way round. The mean is over the whole effective batch, without
dropout, in a pass of its own before the gradient is taken; in an evaluation it is
over all held-out pairs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from tunesmith.training.examples import MicroBatch
from tunesmith.training.network import Network
from tunesmith.training.objective import Measured
from tunesmith.training.pairs import by_pair, count_pairs, gains, rewarded


@dataclass(frozen=True)
class Kto:
    """Learns that the first text of each pair is good and the second is not.

    The loss of a pair is the mean of its two answers', that of a batch the mean over the pairs.
    """

    beta: float
    """How closely the model is held to the reference."""
    desirable_weight: float
    """Weight of the preferred answers' losses."""
    undesirable_weight: float
    """Weight of the other answers' losses."""
    moved_by_chosen: float = 0.0
    """z as the preferred answers show it, for the other ones, in nats; from 0."""
    moved_by_rejected: float = 0.0
    """z as the other answers show it, for the preferred ones, in nats; from 0."""

    def count(self, batch: MicroBatch) -> int:
        """Return the pairs of `batch`."""
        return count_pairs(batch)

    def whole(self, network: Network, batches: Iterable[MicroBatch]) -> Kto:
        """Return this objective with z estimated over all `batches`, without dropout."""
        sums, pairs = torch.zeros(2, dtype=torch.float64), 0
        was_training = network.model.training
        network.model.eval()
        try:
            with torch.no_grad():
                for batch in batches:
                    sums += gains(network, batch).reshape(-1, 2).sum(dim=0)
                    pairs += count_pairs(batch)
        finally:
            network.model.train(was_training)
        chosen, rejected = (sums / pairs).clamp(min=0).tolist()
        return replace(self, moved_by_chosen=chosen, moved_by_rejected=rejected)

    def measure(self, network: Network, batch: MicroBatch) -> Measured:
        """Return the sums of the losses and rewards; a reward is `beta` times the gain.

        `batch` has its reference; its texts are chosen and rejected in turn.
        """
        gained = gains(network, batch)
        chosen, rejected = by_pair(gained)
        # 1 - sigmoid(x) is sigmoid(-x), which loses no digits where x is large.
        good = torch.sigmoid(-self.beta * (chosen - self.moved_by_rejected))
        bad = torch.sigmoid(-self.beta * (self.moved_by_chosen - rejected))
        losses = (self.desirable_weight * good + self.undesirable_weight * bad) / 2
        return rewarded(losses, self.beta * gained)
