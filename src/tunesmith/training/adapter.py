"""Loads a base model in the wanted precision and puts a trainable adapter on it."""

from __future__ import annotations

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from tunesmith.domain.failures import FailureCode
from tunesmith.domain.models import CatalogueEntry
from tunesmith.domain.spec import Precision, TrainSpec
from tunesmith.training.base_model import BaseModel, unavailable
from tunesmith.training.failures import RunFailedError


def precision_here(asked: Precision) -> Precision:
    """Return what `asked` means on this processor: never `auto`."""
    if asked is not Precision.AUTO:
        return asked
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return Precision.BF16 if native else Precision.FP32


def load_tokenizer(entry: CatalogueEntry, base: BaseModel) -> PreTrainedTokenizerBase:
    """Load the tokenizer of `base`. Raises `RunFailedError` where there is none."""
    try:
        return AutoTokenizer.from_pretrained(base.folder, trust_remote_code=entry.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise unavailable(entry, f"its tokenizer cannot be loaded. ({error})") from error


def load_model(spec: TrainSpec, base: BaseModel, precision: Precision) -> PeftModel:
    """Load `base` frozen in `precision`, with a new adapter in fp32 started from the seed.

    Raises `RunFailedError` where the model cannot be loaded or has no such modules.
    """
    entry = spec.base_model
    try:
        frozen = AutoModelForCausalLM.from_pretrained(
            base.folder,
            dtype=torch.bfloat16 if precision is Precision.BF16 else torch.float32,
            trust_remote_code=entry.trust_remote_code,
        )
    except (OSError, ValueError, KeyError) as error:
        raise unavailable(entry, f"its weights cannot be loaded. ({error})") from error
    if spec.gradient_checkpointing:
        frozen.gradient_checkpointing_enable({"use_reentrant": False})
    model = _with_adapter(frozen, spec)
    model.peft_config["default"].base_model_name_or_path = base.reference
    model.peft_config["default"].revision = base.revision
    model.train()
    return model


def _with_adapter(frozen: torch.nn.Module, spec: TrainSpec) -> PeftModel:
    lora = spec.lora
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear" if lora.targets is None else list(lora.targets),
    )
    torch.manual_seed(spec.seed)
    try:
        return get_peft_model(frozen, config)
    except ValueError as error:
        raise RunFailedError(
            FailureCode.INTERNAL_ERROR,
            f"No adapter can be put on the base model '{spec.base_model.name}'. "
            f"Check the names in the LoRA targets. ({error})",
        ) from error
