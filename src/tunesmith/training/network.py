"""How texts go through a model: what a micro-batch's tokens become, and their losses.

There are two ways. Packed, the texts stand one behind the other and nothing is computed for
padding: `packed.pack` makes a model ready for it, and tells where it cannot be. Padded, each text
is a row, which every model takes.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from tunesmith.training.attention import Layout
from tunesmith.training.cross_entropy import Head, token_losses
from tunesmith.training.devices import PROCESSOR, Place
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
        place: Place = PROCESSOR,
    ) -> None:
        """Send texts through `model`, of transformers' classes.

        `packed` is the precision of the `products` of a model that `packed.pack` has made ready for
        packed texts; without it, texts are padded. `most_tokens` is set for a network through which
        another number than the usual one goes at once, and `padding` as `micro_batches` takes it.
        `place` is where the model is.
        """
        self.model = model
        """The model itself."""
        self.packed = packed
        """The precision of the products where texts are packed; else `None`."""
        self.most_tokens = most_tokens or place.rules.most_tokens
        """Most tokens that go through at once; `None` means the usual number."""
        self.padding = padding
        """How many times as many places padded texts may take: once where every layer computes
        something for padding, and any number (`None`) where none does."""
        self.place = place
        """Where the model is; what comes of micro-batches is brought back to the processor."""
        self.in_step = False
        """Whether all workers have to go through the model equally often, at the same time, since
        it is divided among them."""
        self.shares_prefixes = False
        """Whether beginnings that packed texts have in common go through the model once."""
        self._products = products
        inner = model.get_base_model() if isinstance(model, PeftModel) else model
        self._keeps_logits = "logits_to_keep" in inspect.signature(inner.forward).parameters
        # Sequence classifiers that are decoders find a text's last token by it.
        self._padding: int = getattr(getattr(inner, "config", None), "pad_token_id", None) or 0
        self._backbone = getattr(inner, getattr(inner, "base_model_prefix", ""), inner)
        self._head = None if packed is None else _head(inner, packed, place=place)
        config = getattr(inner, "config", None)
        self._context: int = getattr(config, "max_position_embeddings", None) or sys.maxsize

    def forget(self) -> None:
        """Give back what a pass that broke off has left in the model."""
        self.model.zero_grad(set_to_none=True)
        for product in self._products:
            product.forget()
        self.place.forget()

    def pass_idle(self, batch: MicroBatch) -> None:
        """Go through the model with the others, who learn or measure, but for nothing."""
        nothing = self.logits(batch, torch.zeros(1, dtype=torch.int64)).sum() * 0.0
        if torch.is_grad_enabled():
            torch.autograd.backward(nothing)

    def hidden_states(self, batch: MicroBatch) -> torch.Tensor:
        """Return the last layer's states of all tokens, as the head gets them, (tokens, width).

        They stay where the model is.
        """
        if self.packed is not None:
            return self._row(batch)[: batch.tokens]
        states: torch.Tensor = self._backbone(**self._padded(batch)).last_hidden_state
        return states[self._sent(batch.texts), self._sent(batch.positions)]

    def losses(self, batch: MicroBatch, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the cross-entropy of the tokens at `places` and whether each was foreseen.

        `places`, (places,), int64, are numbers of tokens of `batch`, none the first of its text.
        The losses are in nats, (places,), fp32, with their gradient; the other is bool.
        """
        wanted = batch.input_ids[places]
        if self._head is not None and self.place.rules.fixed_shapes:
            return self._losses_of_row(batch, self._head, places=places)
        if self._head is not None:
            states = self.hidden_states(batch)[self._sent(places - 1)]
            losses, foreseen = token_losses(states, self._head, wanted=self._sent(wanted))
            return losses.cpu(), foreseen.cpu()
        logits, wanted = self._logits(batch, places - 1).float(), self._sent(wanted)
        foreseen = logits.detach().argmax(dim=-1) == wanted
        return functional.cross_entropy(logits, wanted, reduction="none").cpu(), foreseen.cpu()

    def logits(self, batch: MicroBatch, places: torch.Tensor) -> torch.Tensor:
        """Return the logits at `places` of `batch`, (places, vocabulary), with their gradient.

        `places`, (places,), int64, are numbers of tokens.
        """
        return self._logits(batch, places).cpu()

    def _logits(self, batch: MicroBatch, places: torch.Tensor) -> torch.Tensor:
        """Do as `logits`, and leave them where the model is."""
        if self._head is not None:
            return self._head.logits(self.hidden_states(batch)[self._sent(places)])
        rows, columns = batch.texts[places], batch.positions[places]
        inputs = self._padded(batch)
        rows = self._sent(rows)
        if not self._keeps_logits or self.place.rules.fixed_shapes:
            logits: torch.Tensor = self.model(**inputs, use_cache=False).logits
            return logits[rows, self._sent(columns)]
        kept, among = torch.unique(columns, return_inverse=True)
        logits = self.model(**inputs, use_cache=False, logits_to_keep=self._sent(kept)).logits
        return logits[rows, self._sent(among)]

    def scores(self, batch: MicroBatch) -> torch.Tensor:
        """Return the one output of a sequence classifier for each text, (texts,)."""
        inputs = self._padded(batch, padding=self._padding)
        scores: torch.Tensor = self.model(**inputs).logits
        return scores.squeeze(-1)[: len(batch.lengths)].cpu()

    def _prefixes(self, batch: MicroBatch) -> Prefixes | None:
        if not self.shares_prefixes:
            return None
        return shared_prefixes(batch.input_ids, batch.lengths)

    def _row(self, batch: MicroBatch) -> torch.Tensor:
        """Return the last states of packed texts, and of what fills their row, (tokens, width)."""
        prefixes = self._prefixes(batch)
        inputs = self._joined(batch, prefixes)
        states: torch.Tensor = self._backbone(**inputs).last_hidden_state[0]
        return states if prefixes is None else states[prefixes.of]

    def _losses_of_row(
        self, batch: MicroBatch, head: Head, *, places: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Do as `losses`, by as many products as the row is long, whatever is learnt of it."""
        states = self._row(batch)
        following = functional.pad(batch.input_ids[1:], (0, len(states) - batch.tokens + 1))
        losses, foreseen = token_losses(states, head, wanted=self._sent(following))
        return losses.cpu()[places - 1], foreseen.cpu()[places - 1]

    def _joined(self, batch: MicroBatch, prefixes: Prefixes | None) -> dict[str, Any]:
        assert self.packed is not None  # noqa: S101
        tokens = slice(None) if prefixes is None else prefixes.kept
        # What fills the row up is a text of its own, which nothing comes of.
        more = (0, self.place.packed_row(batch.tokens) - batch.tokens)
        positions = self._sent(functional.pad(batch.positions, more))
        texts = self._sent(functional.pad(batch.texts, more, value=len(batch.lengths)))
        return {
            "input_ids": self._sent(functional.pad(batch.input_ids, more))[tokens][None],
            "position_ids": positions[tokens][None],
            "layout": Layout(batch.lengths, positions, texts, self.packed, prefixes),
            "use_cache": False,
        }

    def _padded(self, batch: MicroBatch, *, padding: int = 0) -> dict[str, torch.Tensor]:
        """Return the texts as rows, padded on the right: ids and mask, (texts, length), int64.

        Where texts have two parts, they are told apart. Rows that are there for the shape alone
        have one token.
        """
        texts = len(batch.lengths)
        lacking = self.place.row(texts) - texts
        longest = max(batch.lengths)
        more = (0, max(min(self.place.row(longest), self._context), longest) - longest)

        def laid(tokens: torch.Tensor, value: int = 0) -> torch.Tensor:
            rows = [*torch.split(tokens, list(batch.lengths)), *[tokens[:1]] * lacking]
            whole = pad_sequence(rows, batch_first=True, padding_value=value)
            return self._sent(functional.pad(whole, more, value=value))

        inputs = {
            "input_ids": laid(batch.input_ids, padding),
            "attention_mask": laid(torch.ones_like(batch.input_ids)),
        }
        if batch.segments is not None:
            inputs["token_type_ids"] = laid(batch.segments)
        return inputs

    def _sent(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return `tensor` where the model is."""
        return tensor.to(self.place.name)


def _head(inner: PreTrainedModel, dtype: torch.dtype, *, place: Place) -> Head | None:
    layer = inner.get_output_embeddings()
    if layer is None:
        return None
    bias = getattr(layer, "bias", None)
    return Head(layer.weight, bias, dtype=dtype, pieces=place.rules.pieces)
