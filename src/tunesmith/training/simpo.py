"""Simple preference optimization: the preferred answer leads by token, and by a margin.

Meng et al. 2024, arXiv:2405.14734, equation 6. The reward of an answer is `scale`
times the mean log-probability of its learnt tokens; the loss of a pair is
-log sigmoid(reward of the chosen - reward of the rejected - gamma). There is no
reference, and the mean gives long answers no advantage.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch.nn import functional

from tunesmith.training.examples import MicroBatch
from tunesmith.training.network import Network
from tunesmith.training.objective import Measured
from tunesmith.training.pairs import by_pair, count_pairs, rewarded
from tunesmith.training.tokens import mean_log_probabilities


@dataclass(frozen=True)
class Simpo:
    """Learns to find the first text of each pair likelier; the loss is the mean over the pairs."""

    scale: float
    """Factor on the mean log-probabilities: the paper's beta."""
    gamma: float
    """Nats by which the preferred answer's reward is to lead."""

    def count(self, batch: MicroBatch) -> int:
        """Return the pairs of `batch`."""
        return count_pairs(batch)

    def measure(self, network: Network, batch: MicroBatch) -> Measured:
        """Return the sums of the losses and rewards, and the pairs whose chosen is rewarded more.

        The texts of `batch` are chosen and rejected in turn.
        """
        rewards = self.scale * mean_log_probabilities(network, batch)
        chosen, rejected = by_pair(rewards)
        return rewarded(-functional.logsigmoid(chosen - rejected - self.gamma), rewards)
