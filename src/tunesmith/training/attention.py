"""Attention among the tokens of each text of a micro-batch, and among no others.

The texts stand one behind the other. For attention alone they are laid side by side, padded to
the longest, so that few large products do the work of many small ones; no other layer sees padding.
Rows of a text are taken in blocks, each with the keys up to its own end. Products are taken in the
precision of the run, all between them in fp32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from tunesmith.training.kernels import LANES, kernels
from tunesmith.training.prefixes import Prefixes
from tunesmith.training.room import Use, room

PACKED_ATTENTION = "tunesmith_packed"
"""What transformers knows this attention by."""

_BLOCK = 128
"""Queries of a text that are taken together; none is multiplied with keys behind its block."""

_LONGEST_KEPT = 512
"""Tokens of the longest text up to which weights are kept for the backward pass.

Beyond, they would take more memory than all else, and are computed a second time.
"""

_LONGEST_ROW = 2**15
"""Keys of a query up to which kernels make its weights, which they keep on a thread's stack."""


@dataclass(frozen=True, eq=False)
class Group:
    """Packed texts of like lengths, padded to the longest of them."""

    tokens: torch.Tensor
    """Which token stands at each place, (texts * longest,), int64; the text's last where none is.
    """
    there: torch.Tensor
    """Places with a token, ascending, (tokens,), int64."""
    seen: torch.Tensor
    """Whether there is a token at each place of each text, (texts, longest), bool."""

    @classmethod
    def of(cls, begins: torch.Tensor, sizes: torch.Tensor) -> Self:
        """Pad texts that begin with these tokens and have so many, (texts,), int64."""
        places = torch.arange(int(sizes.max()))
        seen = places < sizes[:, None]
        tokens = begins[:, None] + torch.minimum(places, sizes[:, None] - 1)
        return cls(tokens.flatten(), seen.flatten().nonzero().squeeze(1), seen)


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the tokens of packed texts stand, and in what precision they are multiplied."""

    lengths: tuple[int, ...]
    """Tokens of each text."""
    positions: torch.Tensor
    """Place of each token in its text, from 0, (tokens,), int64."""
    texts: torch.Tensor
    """Number of the text of each token, (tokens,), int64."""
    dtype: torch.dtype
    """Precision of the products."""
    prefixes: Prefixes | None = None
    """Tokens that stand in several texts and are one; the model has but the kept ones."""

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return max(self.lengths)

    @cached_property
    def _places(self) -> torch.Tensor:
        """Where each token of each text stands among the padded texts, (tokens,), int64."""
        return self.texts * self.longest + self.positions

    @cached_property
    def flat(self) -> torch.Tensor:
        """Where each token of the model stands among the padded texts, (tokens,), int64.

        One that stands in several texts does so at one of its places.
        """
        return self._places if self.prefixes is None else self._places[self.prefixes.kept]

    @cached_property
    def padded(self) -> torch.Tensor:
        """Which token stands at each place of the padded texts, (texts * longest,), int64.

        Where there is none, it is the last; nothing that is kept comes of it.
        """
        tokens = torch.arange(len(self._places)) if self.prefixes is None else self.prefixes.of
        places = torch.full((len(self.lengths) * self.longest,), len(self.flat) - 1)
        places[self._places] = tokens
        return places

    @cached_property
    def absent(self) -> torch.Tensor:
        """Places of the padded texts that are no token's in `flat`, (places,), int64."""
        return self.nothing.nonzero().squeeze(1)

    @cached_property
    def nothing(self) -> torch.Tensor:
        """Whether a place of the padded texts is no token's in `flat`, (texts * longest,), bool."""
        nothing = torch.ones(len(self.padded), dtype=torch.bool)
        nothing[self.flat] = False
        return nothing

    @cached_property
    def groups(self) -> list[Group]:
        """The texts in groups, each of lengths between two powers of two."""
        sizes = torch.tensor(self.lengths)
        begins = sizes.cumsum(0) - sizes
        numbers: dict[int, list[int]] = {}
        for number, length in enumerate(self.lengths):
            numbers.setdefault((length - 1).bit_length(), []).append(number)
        return [Group.of(begins[chosen], sizes[chosen]) for chosen in numbers.values()]

    @cached_property
    def regrouped(self) -> torch.Tensor:
        """Where each token stands among those of all `groups`, (tokens,), int64."""
        return torch.argsort(torch.cat([group.tokens[group.there] for group in self.groups]))

    def masks(self, window: int | None) -> list[torch.Tensor]:
        """Return for each block of queries what is added to its scores: 0, or -inf if hidden.

        Each is (queries, keys). A query sees keys up to its own place, and with a `window` no
        more than so many of them.
        """
        if window not in self._masks:
            self._masks[window] = [_mask(*block, window=window) for block in blocks(self.longest)]
        return self._masks[window]

    def mask(self, *, causal: bool, window: int | None) -> torch.Tensor:
        """Return what is added to each token's scores, (1, 1, tokens, tokens): 0, -inf if hidden.

        A token sees those of its own text: with `causal` none behind itself, and with a `window` no
        more than so many of them.
        """
        known = self._whole_masks.get((causal, window))
        if known is None:
            positions = self.positions.int()
            apart = positions[:, None] - positions
            hidden = self.texts[:, None] != self.texts
            if causal:
                hidden |= apart < 0
            if window is not None:
                hidden |= (apart if causal else apart.abs()) >= window
            known = torch.zeros(hidden.shape, dtype=self.dtype, device=hidden.device)
            known = known.masked_fill_(hidden, -torch.inf)[None, None]
            self._whole_masks[causal, window] = known
        return known

    @cached_property
    def _whole_masks(self) -> dict[tuple[bool, int | None], torch.Tensor]:
        return {}

    @cached_property
    def _masks(self) -> dict[int | None, list[torch.Tensor]]:
        return {}


def blocks(longest: int) -> Iterator[tuple[int, int]]:
    """Yield where each block of queries of a text of `longest` tokens begins and ends."""
    for begin in range(0, longest, _BLOCK):
        yield begin, min(begin + _BLOCK, longest)


def attend(  # noqa: PLR0913, PLR0917  transformers decides what attention is given
    _module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    layout: Layout,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Return the attention of packed texts, as `AttentionInterface` of transformers wants it.

    `query` is (1, heads, tokens, width), `key` and `value` have as many heads or a part of them;
    the result is (1, tokens, heads, width). Raises `ValueError` for what is not computed here.
    """
    if attention_mask is not None or dropout or softcap:
        raise ValueError("Attention of packed texts knows no mask, dropout or soft cap.")
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    options = _Options(layout, scale, sliding_window)
    attended: torch.Tensor = _Attention.apply(query, key, value, options)  # type: ignore[no-untyped-call]
    return attended[None], None


@dataclass(frozen=True)
class _Options:
    layout: Layout
    scale: float
    window: int | None


class _Attention(torch.autograd.Function):
    """Vaswani et al. 2017, arXiv:1706.03762, equation 1; its gradient as usual."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> torch.Tensor:
        query, key, value, options = given
        layout: Layout = options.layout
        groups = key.shape[1]
        q = _aside(query, layout, groups=groups)
        k, v = (_aside(states, layout, groups=groups).squeeze(1) for states in (key, value))
        attended, kept = torch.empty_like(q), []
        for number, (begin, end) in enumerate(blocks(layout.longest)):
            weights = _weights(q, k, options=options, number=number)
            made = weights @ v[:, :end]
            attended[:, :, begin:end] = made.view(*q.shape[:2], end - begin, -1)
            kept.append(weights)
        ctx.save_for_backward(q, k, v, *(kept if layout.longest <= _LONGEST_KEPT else ()))
        ctx.options = options
        return _back(attended, layout)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        q, k, v, *kept = ctx.saved_tensors
        options: _Options = ctx.options
        layout = options.layout
        grad = _aside(gradients[0], layout, groups=k.shape[0] // len(layout.lengths), absent=0.0)
        grad_q = torch.empty_like(q)
        grad_k, grad_v = (torch.zeros(k.shape) for _ in range(2))
        for number, (begin, end) in enumerate(blocks(layout.longest)):
            weights = kept[number] if kept else _weights(q, k, options=options, number=number)
            mine, asked = grad[:, :, begin:end].flatten(1, 2), q[:, :, begin:end].flatten(1, 2)
            grad_v[:, :end] += weights.transpose(1, 2) @ mine
            scores = room(Use.SCORES, *weights.shape, dtype=layout.dtype, device=q.device)
            torch.bmm(mine, v[:, :end].transpose(1, 2), out=scores)
            # Sums of a row are in fp32 here too, and are rounded once.
            scores = torch._softmax_backward_data(scores, weights, -1, layout.dtype)
            grad_q[:, :, begin:end] = (scores @ k[:, :end]).view(*q.shape[:2], end - begin, -1)
            grad_k[:, :end] += scores.transpose(1, 2) @ asked
        # As queries, the other places of a token have no gradient: nothing comes of them.
        for one in (grad_k, grad_v):
            _gather(one, layout)
        found = _back(grad_q, layout), _back(grad_k[:, None], layout)
        for one in found:
            one.mul_(options.scale)
        return (*found, _back(grad_v[:, None], layout), None)


def _weights(q: torch.Tensor, k: torch.Tensor, *, options: _Options, number: int) -> torch.Tensor:
    """Return the weights of a block's queries, (texts * groups, heads / groups * queries, keys)."""
    mask = options.layout.masks(options.window)[number]
    queries, end = mask.shape
    asked = q[:, :, end - queries : end]
    size = len(q), asked.shape[1] * queries, end
    scores = room(Use.SCORES, *size, dtype=q.dtype, device=q.device)
    torch.bmm(asked.flatten(1, 2), k[:, :end].transpose(1, 2), out=scores)
    fast = kernels(q.dtype, q.device)
    if fast is not None and end <= _LONGEST_ROW:
        made, block = torch.empty_like(scores), (end - queries, end)
        window = options.window
        fast.weigh(scores, made, scale=options.scale, queries=block, window=window)
        return made
    apart = *asked.shape[:3], end
    seen = room(Use.WEIGHTS, *apart, dtype=torch.float32, device=q.device)
    torch.add(mask, scores.view(apart), alpha=options.scale, out=seen)
    torch.softmax(seen, dim=-1, out=seen)
    return seen.view(size).to(q.dtype, copy=True)


def _aside(
    states: torch.Tensor, layout: Layout, *, groups: int, absent: float | None = None
) -> torch.Tensor:
    """Lay `states` aside, (tokens, heads, width), as padded texts with their heads apart.

    Returns (texts * groups, heads / groups, length, width).
    """
    heads, width = states.shape[1:]
    texts = len(layout.lengths)
    shape = texts * groups, heads // groups, layout.longest, width
    fast = kernels(layout.dtype, states.device)
    plain = states.dtype is torch.float32 and states.stride(-1) == 1
    if fast is not None and plain and width % LANES == 0:
        made = states.new_empty(texts, heads, layout.longest, width, dtype=layout.dtype)
        nothing = None if absent is None else layout.nothing
        fast.aside(states, tokens=layout.padded, into=made, absent=nothing)
        return made.view(shape)
    padded = states.index_select(0, layout.padded)
    if absent is not None:
        padded.index_fill_(0, layout.absent, absent)
    apart = padded.view(texts, layout.longest, heads, width).transpose(1, 2)
    aside = apart.to(layout.dtype, memory_format=torch.contiguous_format, copy=True)
    return aside.view(shape)


def _gather(padded: torch.Tensor, layout: Layout) -> None:
    """Add up in `padded`, (texts * groups, length, width), all places of each token in one."""
    if layout.prefixes is not None:
        by_text = padded.view(len(layout.lengths), -1, *padded.shape[1:])
        for text, other, tokens in layout.prefixes.chain:
            by_text[text, :, :tokens] += by_text[other, :, :tokens]


def _back(padded: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Return what `_aside` laid aside to where it stood, in fp32, (tokens, heads, width)."""
    texts = len(layout.lengths)
    apart = padded.reshape(texts, -1, layout.longest, padded.shape[-1]).transpose(1, 2)
    return apart.reshape(texts * layout.longest, -1, padded.shape[-1])[layout.flat].float()


def _mask(begin: int, end: int, *, window: int | None) -> torch.Tensor:
    queries, keys = torch.arange(begin, end)[:, None], torch.arange(end)
    hidden = keys > queries
    if window is not None:
        hidden |= keys <= queries - window
    return torch.zeros(end - begin, end).masked_fill_(hidden, -torch.inf)


AttentionInterface.register(PACKED_ATTENTION, attend)
# Which token sees which is told by the layout.
AttentionMaskInterface.register(PACKED_ATTENTION, lambda *_, **__: None)
