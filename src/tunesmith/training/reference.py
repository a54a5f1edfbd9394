"""The reference of pairs: how likely each answer was before the first step."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors import numpy as safetensors

from tunesmith.artifacts.runs import RunDirectory
from tunesmith.training.data import Data
from tunesmith.training.examples import Examples, Indices, MicroBatch
from tunesmith.training.fitting import Room, fitting
from tunesmith.training.telemetry import Pass
from tunesmith.training.tokens import log_probabilities

Measured = npt.NDArray[np.float64]
"""Log-probabilities of pairs, (pairs, 2); NaN where they were not measured."""


def with_reference(data: Data, run: RunDirectory, *, room: Room, chosen: Indices) -> Data:
    """Return `data` with its log-probabilities under the network, which has taken no step yet.

    Of what is learnt, those of the `chosen` pairs alone. They are measured once
    and kept in the run directory, so that the model is held to the same reference
    in each attempt, and goes through the data once a step and not twice.
    """
    kept = room.group.first(run.reference)
    if kept is None:
        pairs = len(chosen) + len(data.held_out)
        room.events.message(f"Measuring the model on {pairs} pairs before it is tuned")
        found = {
            "learnt": _reference(room, data.learnt, chosen=chosen, file="training"),
            "held_out": _reference(
                room, data.held_out, chosen=data.held_out.all, file=room.spec.held_out_file
            ),
        }
        kept = safetensors.save(found)
        if room.group.leads:
            room.events.check_claim()
            run.write_reference(kept)
    found = safetensors.load(kept)
    return replace(
        data,
        learnt=replace(data.learnt, reference=found["learnt"]),
        held_out=replace(data.held_out, reference=found["held_out"]),
    )


def _reference(
    room: Room, examples: Examples, *, chosen: Indices, file: Literal["training", "validation"]
) -> Measured:
    """Return the log-probabilities of the `chosen` pairs without dropout, (examples, 2).

    Those of the other pairs are NaN.
    """
    network = room.network

    def measure(batches: Iterable[MicroBatch]) -> Measured:
        found = np.full(examples.starts.shape, np.nan)
        with torch.no_grad():
            for batch in batches:
                found[batch.examples] = log_probabilities(network, batch).reshape(-1, 2).numpy()
        return found

    network.model.eval()
    found = fitting(measure, examples, chosen=chosen, room=room, of=Pass(0, "reference"), file=file)
    network.model.train()
    # Of a number and NaN it takes the number, and each pair was measured by one rank.
    return functools.reduce(np.fmax, found)
