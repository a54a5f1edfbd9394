"""Keys and values of the texts that are being continued, and attention over them.

Each text has a slot. Those that are continued together are the first ones, so that what they attend
to is looked at where it lies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

SLOT_ATTENTION = "tunesmith_slots"
"""What transformers knows this attention by."""

_GROWTH = 256
"""Tokens by which all slots grow at a time."""

Kept = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of a layer, (slots, heads, tokens, width) each."""


class Slots:
    """Keys and values of all layers."""

    def __init__(self, count: int) -> None:
        """Have `count` slots, which take no memory yet."""
        self.lengths = [0] * count
        """Tokens of the text in each slot."""
        self._kept: dict[int, Kept] = {}
        self._room = 0

    def move(self, source: int, target: int) -> None:
        """Put the text of the slot `source` into `target`, whose own is over."""
        length = self.lengths[target] = self.lengths[source]
        for kept in self._kept.values():
            for states in kept:
                states[target, :, :length] = states[source, :, :length]

    def take(self, layer: int, new: Kept, *, going: Pass) -> Kept:
        """Keep the keys and values of new tokens, and return those of all tokens up to them.

        `new` are (slots, heads, tokens, width) of the slots that are `going`.
        """
        kept = self._with_room(layer, new, tokens=going.longest)
        slots = slice(going.first, going.first + going.count)
        for into, states in zip(kept, new, strict=True):
            if going.count == 1:
                begin = going.begins[0]
                into[going.first, :, begin : begin + going.tokens] = states[0]
            else:
                into[going.slots, :, going.places] = states[:, :, 0]
        keys, values = (states[slots, :, : going.longest] for states in kept)
        return keys, values

    def _with_room(self, layer: int, like: Kept, *, tokens: int) -> Kept:
        self._room = max(self._room, -(-tokens // _GROWTH) * _GROWTH)
        kept = self._kept.get(layer)
        if kept is None or kept[0].shape[2] < self._room:
            grown = [
                states.new_zeros(len(self.lengths), states.shape[1], self._room, states.shape[3])
                for states in like
            ]
            for into, states in zip(grown, kept or (), strict=False):
                into[:, :, : states.shape[2]] = states
            kept = self._kept[layer] = (grown[0], grown[1])
        return kept


@dataclass(frozen=True, eq=False)
class Pass:
    """Some new tokens of each of some slots, as many of each."""

    of: Slots
    """The slots."""
    first: int
    """The first one."""
    count: int
    """How many there are, one behind another; several have one new token each."""
    tokens: int
    """New tokens of each."""

    @cached_property
    def begins(self) -> list[int]:
        """Tokens that each had before."""
        return self.of.lengths[self.first : self.first + self.count]

    @property
    def longest(self) -> int:
        """Tokens of the longest, with the new ones."""
        return max(self.begins) + self.tokens

    @cached_property
    def slots(self) -> torch.Tensor:
        """Their numbers, (count,), int64."""
        return torch.arange(self.first, self.first + self.count)

    @cached_property
    def places(self) -> torch.Tensor:
        """Where the first new token of each stands, (count,), int64."""
        return torch.tensor(self.begins)

    @cached_property
    def positions(self) -> torch.Tensor:
        """Where each new token stands in its text, (count, tokens), int64."""
        return self.places[:, None] + torch.arange(self.tokens)

    def hidden(self, window: int | None) -> torch.Tensor:
        """Return what each new token does not see, (count, tokens, longest), bool.

        It sees those up to itself, and with a `window` no more than so many of them.
        """
        if window not in self._hidden:
            apart = self.positions[:, :, None] - torch.arange(self.longest)
            hidden = apart < 0
            self._hidden[window] = hidden if window is None else hidden | (apart >= window)
        return self._hidden[window]

    @cached_property
    def _hidden(self) -> dict[int | None, torch.Tensor]:
        return {}

    def done(self) -> None:
        """Count the new tokens, once they went through all layers."""
        for slot in range(self.first, self.first + self.count):
            self.of.lengths[slot] += self.tokens


@dataclass(frozen=True, eq=False)
class Joined:
    """Passes that go through the model as one: all tokens stand in one row, none for padding."""

    passes: tuple[Pass, ...]
    """One behind the other; of each, all tokens of a slot stand before those of the next."""

    @property
    def positions(self) -> torch.Tensor:
        """Where each new token stands in its text, (1, tokens), int64."""
        return torch.cat([each.positions.view(1, -1) for each in self.passes], dim=1)

    @property
    def lasts(self) -> torch.Tensor:
        """Which tokens are the last ones of their slots, int64."""
        slots = [each.tokens for each in self.passes for _ in range(each.count)]
        return torch.tensor(slots).cumsum(0) - 1

    def attended(
        self,
        by: Callable[[Pass, torch.Tensor, Kept], torch.Tensor],
        *,
        asked: torch.Tensor,
        new: Kept,
    ) -> torch.Tensor:
        """Return what `by` makes of each pass, (1, tokens, heads, width).

        `asked` and `new` are (1, heads, tokens, width).
        """
        made, begin = [], 0
        for each in self.passes:
            end = begin + each.count * each.tokens
            query, key, value = (
                states[0, :, begin:end]
                .reshape(-1, each.count, each.tokens, states.shape[-1])
                .transpose(0, 1)
                for states in (asked, *new)
            )
            made.append(by(each, query, (key, value)).flatten(0, 1)[None])
            begin = end
        return torch.cat(made, dim=1)

    def done(self) -> None:
        """Count the new tokens, once they went through all layers."""
        for each in self.passes:
            each.done()


def attend(  # noqa: PLR0913, PLR0917  transformers decides what attention is given
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    going: Joined,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Return the attention of new tokens, as `AttentionInterface` of transformers wants it.

    `query` is (1, heads, tokens, width), of all slots; `key` and `value` have as many heads or a
    part of them; the result is (1, tokens, heads, width). Raises `ValueError` for what is not
    computed here.
    """
    layer = getattr(module, "layer_idx", None)
    if attention_mask is not None or dropout or not isinstance(layer, int):
        raise ValueError("Attention over slots knows no other mask, no dropout and no lone layer.")
    by = partial(_attended, layer, scaling=scaling, window=sliding_window, softcap=softcap)
    return going.attended(by, asked=query, new=(key, value)), None


def _attended(  # noqa: PLR0913, PLR0917  it takes what `attend` takes
    layer: int,
    going: Pass,
    query: torch.Tensor,
    new: Kept,
    *,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """Return the attention of the new tokens of one pass, (slots, tokens, heads, width).

    `query` and `new` are (slots, heads, tokens, width).
    """
    keys, values = going.of.take(layer, new, going=going)
    count, heads, tokens, width = query.shape
    groups = keys.shape[1]
    scale = width**-0.5 if scaling is None else scaling
    asked = query.reshape(count, groups, heads // groups * tokens, width)
    scores = (asked @ keys.transpose(2, 3)).float().mul_(scale)
    if softcap:
        scores = scores.div_(softcap).tanh_().mul_(softcap)
    apart = scores.view(count, groups, heads // groups, tokens, -1)
    apart.masked_fill_(going.hidden(window)[:, None, None], -torch.inf)
    weights = torch.softmax(scores, dim=-1).to(values.dtype)
    attended = (weights @ values).view(count, heads, tokens, values.shape[-1])
    return attended.transpose(1, 2)


AttentionInterface.register(SLOT_ATTENTION, attend)
# Which token sees which is told by the pass.
AttentionMaskInterface.register(SLOT_ATTENTION, lambda *_, **__: None)
