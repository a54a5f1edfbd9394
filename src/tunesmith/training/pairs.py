"""What the losses of pairs share: which text is which, what was gained, and the rewards.

Rewards are told as means over the pairs. A pair is got right where its preferred
answer is rewarded more than the other.
"""

from __future__ import annotations

import torch

from tunesmith.training.examples import MicroBatch
from tunesmith.training.network import Network
from tunesmith.training.objective import Each, Measured
from tunesmith.training.tokens import log_probabilities


def count_pairs(batch: MicroBatch) -> int:
    """Return the pairs of `batch`."""
    return len(batch.lengths) // 2


def by_pair(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return those of the preferred and those of the other answers, (pairs,) each.

    `values`, (texts,), are one for each text, of the preferred and the other in turn.
    """
    pairs = values.reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def gains(network: Network, batch: MicroBatch) -> torch.Tensor:
    """Return what each text gained in log-probability over the reference, (texts,), fp64.

    `batch` has its reference.
    """
    assert batch.reference is not None  # noqa: S101  see `with_reference`
    return log_probabilities(network, batch) - batch.reference


def each_pair(losses: torch.Tensor, *, chosen: torch.Tensor, rejected: torch.Tensor) -> Each:
    """Return the `losses` of pairs one by one, by how the two answers are rewarded, (pairs,) each.

    Where both are rewarded alike, as all are before the first step, half of the pair is right.
    """
    right = (chosen > rejected).double() + 0.5 * (chosen == rejected)
    return Each(torch.arange(len(losses)), losses.detach(), right.detach())


def rewarded(losses: torch.Tensor, rewards: torch.Tensor) -> Measured:
    """Return the sums of the `losses`, (pairs,), and of the `rewards`, (texts,), by their names."""
    chosen, rejected = (side.detach() for side in by_pair(rewards))
    return Measured(
        loss=losses.sum(),
        correct=int((chosen > rejected).sum()),
        each=each_pair(losses, chosen=chosen, rejected=rejected),
        further={
            "rewards_chosen": chosen.sum().item(),
            "rewards_rejected": rejected.sum().item(),
            "rewards_margin": (chosen - rejected).sum().item(),
        },
    )
