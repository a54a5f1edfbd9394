"""The supervised objective: cross-entropy on the learnt tokens, and how many were foreseen.

Reasoning and pretraining have this loss as well; what differs is which tokens are learnt, and
`tunesmith.dataset.rendering` marks those.
"""

from __future__ import annotations

from tunesmith.training.examples import MicroBatch
from tunesmith.training.network import Network
from tunesmith.training.objective import Each, Measured
from tunesmith.training.tokens import learnt_tokens


class Supervised:
    """Learns to say what is marked as learnt; the loss is the mean over the learnt tokens."""

    def count(self, batch: MicroBatch) -> int:
        """Return the learnt tokens of `batch`."""
        return batch.learnt_tokens

    def measure(self, network: Network, batch: MicroBatch) -> Measured:
        """Return the sum of the cross-entropies, and the tokens that were the first choice."""
        tokens = learnt_tokens(network, batch)
        return Measured(
            loss=tokens.losses.sum(),
            correct=int(tokens.foreseen.sum()),
            each=Each(tokens.texts, tokens.losses.detach(), tokens.foreseen),
        )
