"""The supervised objective: cross-entropy on the learnt tokens, and how many were foreseen."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch.nn import functional

from tunesmith.training.examples import Examples, MicroBatch, micro_batches


@dataclass(frozen=True)
class Measured:
    """Sums over the learnt tokens of a micro-batch."""

    loss: torch.Tensor
    """Sum of the cross-entropies, in nats; a scalar in fp32 with its gradient."""
    correct: int
    """Tokens that were the model's first choice."""


@dataclass(frozen=True)
class Score:
    """Means over the learnt tokens of some examples."""

    loss: float
    """Cross-entropy, in nats."""
    accuracy: float
    """Share of tokens that were the model's first choice."""


def measure(model: torch.nn.Module, batch: MicroBatch) -> Measured:
    """Send `batch` through `model`, which is a causal language model with or without adapter.

    Logits are made only at the sequence positions that predict a learnt token
    in some row, and the loss is taken in fp32.
    """
    rows, columns = batch.learn[:, 1:].nonzero(as_tuple=True)
    kept, places = torch.unique(columns, return_inverse=True)
    logits = _logits(model, batch, kept=kept)[rows, places].float()
    wanted = batch.input_ids[rows, columns + 1]
    return Measured(
        loss=functional.cross_entropy(logits, wanted, reduction="sum"),
        correct=int((logits.detach().argmax(dim=-1) == wanted).sum()),
    )


def evaluate(model: torch.nn.Module, held_out: Examples) -> Score:
    """Measure `model` on all `held_out` examples without dropout, learning nothing."""
    loss, correct, learnt = 0.0, 0, 0
    model.eval()
    with torch.no_grad():
        for batch in micro_batches(held_out, held_out.all):
            measured = measure(model, batch)
            loss += measured.loss.item()
            correct += measured.correct
            learnt += batch.learnt_tokens
    model.train()
    return Score(loss=loss / learnt, accuracy=correct / learnt)


def _logits(model: torch.nn.Module, batch: MicroBatch, *, kept: torch.Tensor) -> torch.Tensor:
    """Return the logits at the positions `kept`, (rows, kept, vocabulary)."""
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if _keeps_logits(model):
        logits: torch.Tensor = model(**inputs, use_cache=False, logits_to_keep=kept).logits
        return logits
    logits = model(**inputs, use_cache=False).logits
    return logits[:, kept]


def _keeps_logits(model: torch.nn.Module) -> bool:
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    return "logits_to_keep" in inspect.signature(inner.forward).parameters
