"""Compares models that make vectors of texts, or scores of pairs, by what they make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.domain.exports import Comparison
from tunesmith.domain.spec import Method
from tunesmith.inference.parity import Finding
from tunesmith.inference.sides import QUESTIONS

_PASSAGE = "Paris is the capital and the largest city of France."


def outputs_of(model: Any, tokenizer: FolderTokenizer, *, method: Method) -> list[torch.Tensor]:
    """Return what `model` makes of each question: its last states, or the score of a passage."""
    found = []
    for question in QUESTIONS:
        passage = _PASSAGE if method is Method.RERANK else None
        encoded = tokenizer.backend.encode(question, passage)
        given = {"input_ids": torch.tensor([encoded.ids])}
        if passage is not None and getattr(model.config, "type_vocab_size", 1) > 1:
            given["token_type_ids"] = torch.tensor([encoded.type_ids])
        with torch.inference_mode():
            made = model(**given)
        found.append((made.logits if method is Method.RERANK else made.last_hidden_state).float())
    return found


def compare_outputs(
    wanted: Sequence[torch.Tensor], made: Sequence[torch.Tensor], *, bound: float
) -> Finding:
    """Return how far the outputs `made` are from those `wanted`, as a share of the largest one."""
    shares = [
        float((other - one).abs().max() / one.abs().max().clamp_min(1e-12))
        for one, other in zip(wanted, made, strict=True)
    ]
    worst = max(shares)
    comparison = Comparison(
        side="merged",
        read_by="transformers",
        bound=bound,
        largest_difference=worst,
        mean_difference=sum(shares) / len(shares),
    )
    shown = QUESTIONS[shares.index(worst)]
    fault = f"after the prompt {shown!r}, outputs differ by {worst:.4g} of the largest"
    return Finding(comparison, fault if worst > bound else None)
