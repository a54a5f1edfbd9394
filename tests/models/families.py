"""Random models of several architectures, small enough to be made and trained on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from models.tiny import byte_tokenizer
from tunesmith.training.adapter import leave_out_dropout

_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
_GEMMA = {"head_dim": 16, "sliding_window": 8}

FAMILIES: dict[str, Callable[[int], PretrainedConfig]] = {
    "llama": lambda words: LlamaConfig(vocab_size=words, **_SIZES),
    "smollm2": lambda words: LlamaConfig(
        vocab_size=words, **_SIZES | {"tie_word_embeddings": True, "num_attention_heads": 8}
    ),
    "qwen2": lambda words: Qwen2Config(vocab_size=words, **_SIZES),
    "qwen3": lambda words: Qwen3Config(vocab_size=words, head_dim=16, **_SIZES),
    "mistral": lambda words: MistralConfig(vocab_size=words, sliding_window=6, **_SIZES),
    "gemma2": lambda words: Gemma2Config(vocab_size=words, **_SIZES | _GEMMA),
    "gemma3": lambda words: Gemma3TextConfig(
        vocab_size=words,
        layer_types=["sliding_attention", "full_attention"],
        **_SIZES | _GEMMA,
    ),
    "phi": lambda words: PhiConfig(vocab_size=words, partial_rotary_factor=0.5, **_SIZES),
    "phi3": lambda words: Phi3Config(vocab_size=words, **_SIZES),
    "gpt2": lambda words: GPT2Config(
        vocab_size=words, n_embd=32, n_layer=2, n_head=4, n_positions=256
    ),
    "opt": lambda words: OPTConfig(
        vocab_size=words,
        hidden_size=32,
        word_embed_proj_dim=32,
        ffn_dim=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
    ),
}
"""Configs by family, of a vocabulary of so many tokens."""


_WIDTHS = (
    "hidden_size",
    "intermediate_size",
    "head_dim",
    "n_embd",
    "ffn_dim",
    "word_embed_proj_dim",
)
"""What configs call their widths."""


def wide(config: PretrainedConfig) -> PretrainedConfig:
    """Return `config` with all widths four times as large."""
    known = config.to_dict()
    wider = {name: 4 * known[name] for name in _WIDTHS if known.get(name)}
    return type(config)(**known | wider)


def save_family(name: str, folder: Path) -> None:
    """Write a random model of the family `name`, with its tokenizer, to `folder`."""
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = FAMILIES[name](len(tokenizer))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for weight in model.parameters():
        # As they begin, weights are so small that neighbours and positions hardly matter.
        if weight.dim() > 1:
            weight.data.normal_(std=0.15)
    model.save_pretrained(folder)


def adapted(model: PreTrainedModel, *, rank: int = 3) -> PeftModel:
    """Return `model` with an adapter that already changes what it says."""
    leave_out_dropout(model)
    torch.manual_seed(1)
    config = LoraConfig(task_type="CAUSAL_LM", r=rank, target_modules="all-linear")
    made = get_peft_model(model, config)
    for name, weight in made.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.1)
    return made.train()
