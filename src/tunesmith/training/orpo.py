"""Odds ratio preference optimization: learns the preferred answer, and its odds over the other.

Hong et al. 2024, arXiv:2403.07691, equations 3 to 7. With the mean log-probability
m of an answer's learnt tokens, its odds are exp(m) / (1 - exp(m)); the loss of a pair is

    -m(chosen) - odds_weight * log sigmoid(log odds(chosen) - log odds(rejected)).

There is no reference: the first term holds the model to good answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from tunesmith.training.examples import MicroBatch
from tunesmith.training.network import Network
from tunesmith.training.objective import Measured
from tunesmith.training.pairs import by_pair, count_pairs, each_pair
from tunesmith.training.tokens import mean_log_probabilities

_MOST = -1e-7
"""Highest mean log-probability: at 0, which fp32 rounds to, the odds would be infinite."""


@dataclass(frozen=True)
class Orpo:
    """Learns to say the first text of each pair and not the second; the loss is the pairs' mean."""

    odds_weight: float
    """Weight of the odds beside the likelihood: the paper's lambda."""

    def count(self, batch: MicroBatch) -> int:
        """Return the pairs of `batch`."""
        return count_pairs(batch)

    def measure(self, network: Network, batch: MicroBatch) -> Measured:
        """Return the sum of the losses, and the pairs whose chosen is the likelier by token.

        The texts of `batch` are chosen and rejected in turn.
        """
        means = mean_log_probabilities(network, batch)
        chosen, rejected = by_pair(means)
        better, worse = by_pair(_log_odds(means))
        odds = -functional.logsigmoid(better - worse)
        losses = self.odds_weight * odds - chosen
        return Measured(
            loss=losses.sum(),
            correct=int((chosen > rejected).sum()),
            each=each_pair(losses, chosen=chosen, rejected=rejected),
        )


def _log_odds(means: torch.Tensor) -> torch.Tensor:
    bounded = means.clamp(max=_MOST)
    return bounded - torch.log(-torch.expm1(bounded))
