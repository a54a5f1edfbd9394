"""Frozen weights in 4 bits under an adapter: QLoRA, Dettmers et al. 2023, arXiv:2305.14314.

The format is theirs: NF4, in blocks of 64 weights, whose scales are quantized to 8 bits in turn. It
is bitsandbytes' matter, which only a run that asks for it imports.
"""

from __future__ import annotations

import copy
import functools
import importlib
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel


def nf4(dtype: torch.dtype, *, whole: list[str]) -> BitsAndBytesConfig:
    """Return what `from_pretrained` is told: linear layers but those below `whole` take 4 bits.

    The model's own `forward` multiplies in `dtype`. Raises `ImportError` where bitsandbytes is not
    installed.
    """
    _library()
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=whole,
    )


def keep_layout(model: PreTrainedModel) -> None:
    """Let all quantized layers of `model` read their weights as they lie, one block after another.

    Where the processor multiplies bf16, bitsandbytes arranges them anew at the first evaluation,
    and `dequantize` would misread them. Where it has AVX-512, bitsandbytes 0.50 misreads those
    whose rows are no multiple of a block: such a layer, which few models have, multiplies here, and
    keeps its weights for the backward pass.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear) and is_quantized(module):
            layer: Any = module
            layer.support_avx512bf16_for_cpu = False
            state = layer.weight.quant_state
            if state.shape[-1] % state.blocksize:
                layer.forward = functools.partial(_multiplied, layer)


def is_quantized(layer: nn.Module) -> bool:
    """Tell whether the weights of `layer` take 4 bits."""
    return hasattr(layer.weight, "quant_state")


def dequantize(layer: nn.Module, into: torch.Tensor) -> None:
    """Write the weights of a quantized `layer` to `into`, (outputs, inputs)."""
    weight: Any = layer.weight
    # Told of rows, it would begin a block in each on some processors.
    state = copy.copy(weight.quant_state)
    state.shape = torch.Size((into.numel(),))
    into.copy_(_library().functional.dequantize_4bit(weight.data, state).view(into.shape))


def _multiplied(layer: nn.Linear, states: torch.Tensor) -> torch.Tensor:
    weights = states.new_empty(layer.out_features, layer.in_features)
    dequantize(layer, weights)
    return nn.functional.linear(states, weights, layer.bias)


def _library() -> Any:
    return importlib.import_module("bitsandbytes")
