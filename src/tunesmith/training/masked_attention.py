"""Attention of packed texts by a device's own kernels: one mask says which token sees which.

The texts stand in one row, one behind the other, whose length is the only shape there is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface

from tunesmith.training.attention import Layout

MASKED_ATTENTION = "tunesmith_masked"
"""What transformers knows this attention by."""


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
    layout: Layout,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Return the attention of packed texts, as `AttentionInterface` of transformers wants it.

    `query` is (1, heads, tokens, width), `key` and `value` have as many heads or a part of them;
    the result is (1, tokens, heads, width), fp32. Raises `ValueError` for what is not computed
    here.
    """
    if attention_mask is not None or softcap:
        raise ValueError("Attention of packed texts knows no other mask and no soft cap.")
    causal = getattr(module, "is_causal", True)
    # Kernels that take a mask want as many heads of each.
    groups = query.shape[1] // key.shape[1]
    key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    query, key, value = (states.to(layout.dtype) for states in (query, key, value))
    # What fills the row up stands behind its texts, so that one alone needs no mask.
    plain = causal and len(layout.lengths) == 1 and sliding_window is None
    attended = functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=None if plain else layout.mask(causal=causal, window=sliding_window),
        dropout_p=dropout,
        is_causal=plain,
        scale=scaling,
    )
    return attended.transpose(1, 2).float(), None


AttentionInterface.register(MASKED_ATTENTION, attend)
# Which token sees which is told by the layout.
AttentionMaskInterface.register(MASKED_ATTENTION, lambda *_, **__: None)
