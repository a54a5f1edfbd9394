"""Direct preference optimization: the preferred answer gains on the other one.

Rafailov et al. 2023, arXiv:2305.18290, equation 7. With the log-probability of
an answer's learnt tokens under the model, and under the model as it was before
the first step (the reference), the reward of an answer is `beta` times what it
gained; the loss of a pair is -log sigmoid(reward of the chosen - reward of the
rejected), ln 2 at the start.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch.nn import functional

from tunesmith.training.examples import MicroBatch
from tunesmith.training.network import Network
from tunesmith.training.objective import Measured
from tunesmith.training.pairs import by_pair, count_pairs, gains, rewarded


@dataclass(frozen=True)
class Dpo:
    """Learns to prefer the first text of each pair; the loss is the mean over the pairs."""

    beta: float
    """How closely the model is held to the reference."""

    def count(self, batch: MicroBatch) -> int:
        """Return the pairs of `batch`."""
        return count_pairs(batch)

    def measure(self, network: Network, batch: MicroBatch) -> Measured:
        """Return the sums of the losses and rewards, and the pairs whose chosen is rewarded more.

        `batch` has its reference; its texts are chosen and rejected in turn.
        """
        rewards = self.beta * gains(network, batch)
        chosen, rejected = by_pair(rewards)
        return rewarded(-functional.logsigmoid(chosen - rejected), rewards)
