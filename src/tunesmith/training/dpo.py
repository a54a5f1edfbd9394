"""Direct preference optimization: the preferred answer gains on the other one.

Rafailov et al. 2023, arXiv:2305.18290, equation 7. With the log-probability of
an answer's learnt tokens under the model, and under the model as it was before
the first step (the reference), the reward of an answer is `beta` times what it
gained; the loss of a pair is -log sigmoid(reward of the chosen - reward of the
rejected), ln 2 at the start.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from safetensors import numpy as safetensors
from torch.nn import functional

from tunesmith.artifacts.runs import RunDirectory
from tunesmith.training.data import Data
from tunesmith.training.examples import (
    Examples,
    Indices,
    MicroBatch,
    micro_batches,
)
from tunesmith.training.network import Network
from tunesmith.training.objective import Measured
from tunesmith.training.telemetry import EventLog
from tunesmith.training.tokens import learnt_tokens


@dataclass(frozen=True)
class Dpo:
    """Learns to prefer the first text of each pair; the loss is the mean over the pairs."""

    beta: float
    """How closely the model is held to the reference."""

    def count(self, batch: MicroBatch) -> int:
        """Return the pairs of `batch`."""
        return len(batch.lengths) // 2

    def measure(self, network: Network, batch: MicroBatch) -> Measured:
        """Return the sums of the losses and rewards, and the pairs whose chosen is rewarded more.

        `batch` has its reference; its texts are chosen and rejected in turn.
        """
        assert batch.reference is not None  # noqa: S101  see `with_reference`
        gained = log_probabilities(network, batch) - batch.reference
        rewards = self.beta * gained.reshape(-1, 2)
        margins = rewards[:, 0] - rewards[:, 1]
        chosen, rejected = rewards.detach().sum(dim=0).tolist()
        return Measured(
            loss=-functional.logsigmoid(margins).sum(),
            correct=int((margins > 0).sum()),
            further={
                "rewards_chosen": chosen,
                "rewards_rejected": rejected,
                "rewards_margin": chosen - rejected,
            },
        )


def log_probabilities(network: Network, batch: MicroBatch) -> torch.Tensor:
    """Return the sum over each text's learnt tokens, in nats, (texts,), fp64.

    Summed in fp64, since long answers come to thousands of nats, of which the
    loss is the difference of differences.
    """
    tokens = learnt_tokens(network, batch)
    sums = torch.zeros(len(batch.lengths), dtype=torch.float64)
    return sums.index_add(0, tokens.texts, -tokens.losses.double())


def with_reference(
    data: Data, run: RunDirectory, *, network: Network, events: EventLog, chosen: Indices
) -> Data:
    """Return `data` with its log-probabilities under `network`, which has taken no step yet.

    Of what is learnt, those of the `chosen` pairs alone. They are measured once
    and kept in the run directory, so that the model is held to the same reference
    in each attempt, and goes through the data once a step and not twice.
    """
    kept = run.reference()
    if kept is None:
        pairs = len(chosen) + len(data.held_out)
        events.message(f"Measuring the model on {pairs} pairs before it is tuned")
        found = {
            "learnt": _reference(network, data.learnt, chosen=chosen),
            "held_out": _reference(network, data.held_out, chosen=data.held_out.all),
        }
        kept = safetensors.save(found)
        events.check_claim()
        run.write_reference(kept)
    found = safetensors.load(kept)
    return replace(
        data,
        learnt=replace(data.learnt, reference=found["learnt"]),
        held_out=replace(data.held_out, reference=found["held_out"]),
    )


def _reference(network: Network, examples: Examples, *, chosen: Indices) -> npt.NDArray[np.float64]:
    """Return the log-probabilities of the `chosen` pairs without dropout, (examples, 2).

    Those of the other pairs are NaN.
    """
    found = np.full(examples.starts.shape, np.nan)
    network.model.eval()
    with torch.no_grad():
        for batch in micro_batches(examples, chosen):
            found[batch.examples] = log_probabilities(network, batch).reshape(-1, 2).numpy()
    network.model.train()
    return found
