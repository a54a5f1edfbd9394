"""Identity preference optimization: a pair's margin comes to a goal, and no further.

Azar et al. 2023, arXiv:2310.12036, equation 17. With what an answer gained in
log-probability since the start, summed over its learnt tokens, the loss of a pair is
(gain of the chosen - gain of the rejected - 1 / (2 beta))^2; `beta` is the
paper's tau. Where DPO's loss goes on falling as the margin grows, so that pairs
which all agree draw the model ever further away, this one ends at the goal.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.training.examples import MicroBatch
from tunesmith.training.network import Network
from tunesmith.training.objective import Measured
from tunesmith.training.pairs import by_pair, count_pairs, gains, rewarded


@dataclass(frozen=True)
class Ipo:
    """Learns to prefer the first text of each pair by a margin; the loss is the pairs' mean."""

    beta: float
    """How closely the model is held to the reference: the goal is 1 / (2 beta) nats."""

    def count(self, batch: MicroBatch) -> int:
        """Return the pairs of `batch`."""
        return count_pairs(batch)

    def measure(self, network: Network, batch: MicroBatch) -> Measured:
        """Return the sums of the losses and rewards; a reward is `beta` times the gain.

        `batch` has its reference; its texts are chosen and rejected in turn.
        """
        gained = gains(network, batch)
        chosen, rejected = by_pair(gained)
        losses = (chosen - rejected - 1 / (2 * self.beta)) ** 2
        return rewarded(losses, self.beta * gained)
