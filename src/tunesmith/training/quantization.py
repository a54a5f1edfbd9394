"""Frozen weights in 4 bits under an adapter: QLoRA, Dettmers et al. 2023, arXiv:2305.14314.

The format is theirs: NF4, in blocks of 64 weights, whose scales are quantized to 8 bits in turn. It
is bitsandbytes' matter, which only a run that asks for it imports.
"""

from __future__ import annotations

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
    """Let no quantized layer of `model` arrange its weights anew at the first evaluation.

    bitsandbytes does so where the processor multiplies bf16, and `dequantize` would misread them.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear) and is_quantized(module):
            layer: Any = module
            layer.support_avx512bf16_for_cpu = False


def is_quantized(layer: nn.Module) -> bool:
    """Tell whether the weights of `layer` take 4 bits."""
    return hasattr(layer.weight, "quant_state")


def dequantize(layer: nn.Module, into: torch.Tensor) -> None:
    """Write the weights of a quantized `layer` to `into`, (outputs, inputs)."""
    weight: Any = layer.weight
    into.copy_(_library().functional.dequantize_4bit(weight.data, weight.quant_state))


def _library() -> Any:
    return importlib.import_module("bitsandbytes")
