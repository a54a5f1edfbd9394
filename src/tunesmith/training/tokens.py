"""How likely a model finds each token that is learnt: what objectives of language are made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tunesmith.training.examples import MicroBatch
from tunesmith.training.network import Network


@dataclass(frozen=True)
class LearntTokens:
    """The learnt tokens of a micro-batch, text by text."""

    texts: torch.Tensor
    """The text in which each stands, (tokens,), int64."""
    losses: torch.Tensor
    """Cross-entropy of each, in nats, (tokens,), fp32 with its gradient."""
    foreseen: torch.Tensor
    """Whether each was the model's first choice, (tokens,), bool."""


def learnt_tokens(network: Network, batch: MicroBatch) -> LearntTokens:
    """Send `batch` through `network`, a causal language model.

    Logits are made only where they predict a learnt token.
    """
    places = batch.learn.nonzero().squeeze(1)
    losses, foreseen = network.losses(batch, places)
    return LearntTokens(batch.texts[places], losses, foreseen)


def log_probabilities(network: Network, batch: MicroBatch) -> torch.Tensor:
    """Return the sum over each text's learnt tokens, in nats, (texts,), fp64.

    Summed in fp64, since long answers come to thousands of nats, of which the
    losses of pairs are differences of differences.
    """
    tokens = learnt_tokens(network, batch)
    sums = torch.zeros(len(batch.lengths), dtype=torch.float64)
    return sums.index_add(0, tokens.texts, -tokens.losses.double())


def mean_log_probabilities(network: Network, batch: MicroBatch) -> torch.Tensor:
    """Return the mean over each text's learnt tokens, in nats, (texts,), fp64."""
    learnt = torch.bincount(batch.texts[batch.learn], minlength=len(batch.lengths))
    return log_probabilities(network, batch) / learnt
