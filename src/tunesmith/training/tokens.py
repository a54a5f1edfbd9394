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
