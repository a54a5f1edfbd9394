"""The reference of pairs: how likely each answer was before the first step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from safetensors import numpy as safetensors

from tunesmith.artifacts.runs import RunDirectory
from tunesmith.training.data import Data
from tunesmith.training.examples import Examples, Indices, micro_batches
from tunesmith.training.network import Network
from tunesmith.training.telemetry import EventLog
from tunesmith.training.tokens import log_probabilities


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
