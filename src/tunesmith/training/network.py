"""How texts go through a model: hidden states and logits of a micro-batch.

Texts are padded to the same length, which every model takes.
"""

from __future__ import annotations

import inspect

import torch
from peft import PeftModel
from torch.nn.utils.rnn import pad_sequence

from tunesmith.training.examples import MicroBatch


class Network:
    """A model, with or without adapter, as objectives see it."""

    def __init__(self, model: torch.nn.Module) -> None:
        """Send texts through `model`, of transformers' classes."""
        self.model = model
        """The model itself."""
        inner = model.get_base_model() if isinstance(model, PeftModel) else model
        self._keeps_logits = "logits_to_keep" in inspect.signature(inner.forward).parameters
        # Sequence classifiers that are decoders find a text's last token by it.
        self._padding: int = getattr(getattr(inner, "config", None), "pad_token_id", None) or 0
        self._backbone = getattr(inner, getattr(inner, "base_model_prefix", ""), inner)

    def hidden_states(self, batch: MicroBatch) -> torch.Tensor:
        """Return the last layer's states of all tokens, as the head gets them, (tokens, width)."""
        states: torch.Tensor = self._backbone(**_padded(batch)).last_hidden_state
        return states[batch.texts, batch.positions]

    def logits(self, batch: MicroBatch, places: torch.Tensor) -> torch.Tensor:
        """Return the logits at `places` of `batch`, (places, vocabulary), with their gradient.

        `places`, (places,), int64, are numbers of tokens.
        """
        rows, columns = batch.texts[places], batch.positions[places]
        inputs = _padded(batch)
        if not self._keeps_logits:
            logits: torch.Tensor = self.model(**inputs, use_cache=False).logits
            return logits[rows, columns]
        kept, among = torch.unique(columns, return_inverse=True)
        logits = self.model(**inputs, use_cache=False, logits_to_keep=kept).logits
        return logits[rows, among]

    def scores(self, batch: MicroBatch) -> torch.Tensor:
        """Return the one output of a sequence classifier for each text, (texts,)."""
        inputs = _padded(batch, padding=self._padding)
        scores: torch.Tensor = self.model(**inputs).logits
        return scores.squeeze(-1)


def _padded(batch: MicroBatch, *, padding: int = 0) -> dict[str, torch.Tensor]:
    """Return the texts as rows, padded on the right: ids and mask, (texts, length), int64.

    Where texts have two parts, they are told apart.
    """
    rows = torch.split(batch.input_ids, list(batch.lengths))
    inputs = {
        "input_ids": pad_sequence(list(rows), batch_first=True, padding_value=padding),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
    }
    if batch.segments is not None:
        parts = torch.split(batch.segments, list(batch.lengths))
        inputs["token_type_ids"] = pad_sequence(list(parts), batch_first=True)
    return inputs
