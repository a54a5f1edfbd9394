"""Sends texts through an encoder packed: no layer but attention computes anything for padding.

In an encoder each token sees all tokens of its own text. For attention alone, the texts are laid
aside in groups of like lengths; everything else of the model stays as it is, so that all its
weights may be trained. Where a model gives another result so than text by text, it is not used so.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from tunesmith.training.attention import Layout
from tunesmith.training.devices import PROCESSOR, Place
from tunesmith.training.examples import MICRO_BATCH_TOKENS
from tunesmith.training.failures import is_memory
from tunesmith.training.masked_attention import MASKED_ATTENTION
from tunesmith.training.network import Network
from tunesmith.training.packed import NotPackableError, check_same, probe

ENCODER_ATTENTION = "tunesmith_encoder"
"""What transformers knows this attention by."""

_ROOM = 2**29
"""Bytes that what is kept for the backward pass may take, where more goes through at once."""

_BYTES = 68
"""Of these, what a layer keeps of a token for each number of its width, in fp32: twice what
Korthikanti et al. 2022, arXiv:2205.05198, equation 1, have in half precision, attention left out.
"""


@torch.no_grad()
def pack_encoder(
    model: PeftModel | PreTrainedModel, dtype: torch.dtype, *, place: Place = PROCESSOR
) -> Network:
    """Make the encoder `model`, at `place`, ready for packed texts, multiplied in `dtype` already.

    The vectors of a whole batch hang on each other, so that as much as has room goes through at
    once. Raises `NotPackableError` where it gives another result so than text by text, after which
    the model must be loaded anew.
    """
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    training, texts = model.training, probe(inner)
    model.eval()
    wanted = torch.cat([Network(model, place=place).hidden_states(text) for text in texts.alone])
    try:
        inner.set_attn_implementation(ENCODER_ATTENTION if place.is_cpu else MASKED_ATTENTION)
        most = place.rules.most_tokens or _at_once(inner)
        network = Network(model, packed=dtype, most_tokens=most, padding=None, place=place)
        found = network.hidden_states(texts.together)
    # Whatever a model's own code raises when it is asked for what it does not know.
    except Exception as error:
        if is_memory(error):
            raise
        raise NotPackableError(f"its code does not take packed texts ({error})") from error
    check_same(found, wanted, dtype=dtype)
    model.train(training)
    return network


def _at_once(inner: PreTrainedModel) -> int:
    config = inner.config.get_text_config()
    kept: int = _BYTES * config.hidden_size * config.num_hidden_layers
    return max(_ROOM // kept, MICRO_BATCH_TOKENS)


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
    layout: Layout,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Return the attention among all tokens of each packed text, as `AttentionInterface` wants it.

    `query`, `key` and `value` are (1, heads, tokens, width); the result is (1, tokens, heads,
    width). Raises `ValueError` for what is not computed here.
    """
    if attention_mask is not None or sliding_window or getattr(module, "is_causal", True):
        raise ValueError("a token does not see all others of its text")
    states = torch.stack([query[0], key[0], value[0]]).transpose(1, 2)
    attended = []
    for group in layout.groups:
        texts, longest = group.seen.shape
        laid = states.index_select(1, group.tokens)
        asked, keys, values = laid.view(3, texts, longest, *states.shape[2:]).transpose(2, 3)
        mask = None if bool(group.seen.all()) else group.seen[:, None, None]
        made = functional.scaled_dot_product_attention(
            asked, keys, values, attn_mask=mask, dropout_p=dropout, scale=scaling
        )
        attended.append(made.transpose(1, 2).flatten(0, 1)[group.there])
    return torch.cat(attended)[layout.regrouped][None], None


AttentionInterface.register(ENCODER_ATTENTION, attend)
# Which token sees which is told by the layout.
AttentionMaskInterface.register(ENCODER_ATTENTION, lambda *_, **__: None)
