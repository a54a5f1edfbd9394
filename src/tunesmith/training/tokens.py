"""How likely a model finds each token that is learnt: what every objective is made of."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch.nn import functional

from tunesmith.training.examples import MicroBatch


@dataclass(frozen=True)
class LearntTokens:
    """The learnt tokens of a micro-batch, row by row."""

    rows: torch.Tensor
    """The row in which each stands, (tokens,), int64."""
    losses: torch.Tensor
    """Cross-entropy of each, in nats, (tokens,), fp32 with its gradient."""
    foreseen: torch.Tensor
    """Whether each was the model's first choice, (tokens,), bool."""


def learnt_tokens(model: torch.nn.Module, batch: MicroBatch) -> LearntTokens:
    """Send `batch` through `model`, which is a causal language model with or without adapter.

    Logits are made only at the sequence positions that predict a learnt token
    in some row, and the loss is taken in fp32.
    """
    rows, columns = batch.learn[:, 1:].nonzero(as_tuple=True)
    kept, places = torch.unique(columns, return_inverse=True)
    logits = _logits(model, batch, kept=kept)[rows, places].float()
    wanted = batch.input_ids[rows, columns + 1]
    return LearntTokens(
        rows=rows,
        losses=functional.cross_entropy(logits, wanted, reduction="none"),
        foreseen=logits.detach().argmax(dim=-1) == wanted,
    )


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
