"""How texts go through a model: what a micro-batch's tokens become, and their losses.

There are two ways. Packed, the texts stand one behind the other and nothing is computed for
padding: `packed.pack` makes a model ready for it, and tells where it cannot be. Padded, each text
is a row, which every model takes.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from tunesmith.training.attention import Layout
from tunesmith.training.cross_entropy import Head, token_losses
from tunesmith.training.examples import MicroBatch
from tunesmith.training.prefixes import Prefixes, shared_prefixes
from tunesmith.training.products import SharedProduct


class Network:
    """A model, with or without adapter, as objectives see it."""

    def __init__(
        self,
        model: PeftModel | PreTrainedModel,
        *,
        packed: torch.dtype | None = None,
        products: Sequence[SharedProduct] = (),
        most_tokens: int | None = None,
        padding: int | None = 1,
        shares_prefixes: bool = False,
    ) -> None:
        """Send texts through `model`, of transformers' classes.

        `packed` is the precision of the `products` of a model that `packed.pack` has made ready for
        packed texts; without it, texts are padded. `most_tokens` is set for a network through which
        another number than the usual one goes at once, and `padding` as `micro_batches` takes it.
        With `shares_prefixes`, beginnings that packed texts have in common go through `model` once.
        """
        self.model = model
        """The model itself."""
        self.packed = packed
        """The precision of the products where texts are packed; else `None`."""
        self.most_tokens = most_tokens
        """Most tokens that go through at once; `None` means the usual number."""
        self.padding = padding
        """How many times as many places padded texts may take: once where every layer computes
        something for padding, and any number (`None`) where none does."""
        self.in_step = False
        """Whether all workers have to go through the model equally often, at the same time, since
        it is divided among them."""
        self._shares_prefixes = shares_prefixes
        self._products = products
        inner = model.get_base_model() if isinstance(model, PeftModel) else model
        self._keeps_logits = "logits_to_keep" in inspect.signature(inner.forward).parameters
        # Sequence classifiers that are decoders find a text's last token by it.
        self._padding: int = getattr(getattr(inner, "config", None), "pad_token_id", None) or 0
        self._backbone = getattr(inner, getattr(inner, "base_model_prefix", ""), inner)
        self._head = None if packed is None else _head(inner, packed)

    def forget(self) -> None:
        """Give back what a pass that broke off has left in the model."""
        self.model.zero_grad(set_to_none=True)
        for product in self._products:
            product.forget()

    def pass_idle(self, batch: MicroBatch) -> None:
        """Go through the model with the others, who learn or measure, but for nothing."""
        nothing = self.logits(batch, torch.zeros(1, dtype=torch.int64)).sum() * 0.0
        if torch.is_grad_enabled():
            torch.autograd.backward(nothing)

    def hidden_states(self, batch: MicroBatch) -> torch.Tensor:
        """Return the last layer's states of all tokens, as the head gets them, (tokens, width)."""
        if self.packed is not None:
            prefixes = self._prefixes(batch)
            inputs = self._joined(batch, prefixes)
            states: torch.Tensor = self._backbone(**inputs).last_hidden_state[0]
            return states if prefixes is None else states[prefixes.of]
        states = self._backbone(**_padded(batch)).last_hidden_state
        return states[batch.texts, batch.positions]

    def losses(self, batch: MicroBatch, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the cross-entropy of the tokens at `places` and whether each was foreseen.

        `places`, (places,), int64, are numbers of tokens of `batch`, none the first of its text.
        The losses are in nats, (places,), fp32, with their gradient; the other is bool.
        """
        wanted = batch.input_ids[places]
        if self._head is not None:
            states = self.hidden_states(batch)[places - 1]
            return token_losses(states, self._head, wanted=wanted)
        logits = self.logits(batch, places - 1).float()
        foreseen = logits.detach().argmax(dim=-1) == wanted
        return functional.cross_entropy(logits, wanted, reduction="none"), foreseen

    def logits(self, batch: MicroBatch, places: torch.Tensor) -> torch.Tensor:
        """Return the logits at `places` of `batch`, (places, vocabulary), with their gradient.

        `places`, (places,), int64, are numbers of tokens.
        """
        if self._head is not None:
            return self._head.logits(self.hidden_states(batch)[places])
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

    def _prefixes(self, batch: MicroBatch) -> Prefixes | None:
        if not self._shares_prefixes:
            return None
        return shared_prefixes(batch.input_ids, batch.lengths)

    def _joined(self, batch: MicroBatch, prefixes: Prefixes | None) -> dict[str, Any]:
        assert self.packed is not None  # noqa: S101
        tokens = slice(None) if prefixes is None else prefixes.kept
        return {
            "input_ids": batch.input_ids[tokens][None],
            "position_ids": batch.positions[tokens][None],
            "layout": Layout(batch.lengths, batch.positions, batch.texts, self.packed, prefixes),
            "use_cache": False,
        }


def _head(inner: PreTrainedModel, dtype: torch.dtype) -> Head | None:
    layer = inner.get_output_embeddings()
    if layer is None:
        return None
    return Head(layer.weight, getattr(layer, "bias", None), dtype=dtype)


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
