"""Loads a base model in the wanted precision and puts a trainable adapter on it."""

from __future__ import annotations

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.pytorch_utils import Conv1D

from tunesmith.domain.failures import FailureCode
from tunesmith.domain.models import CatalogueEntry
from tunesmith.domain.spec import Precision, TrainSpec
from tunesmith.training.base_model import BaseModel, unavailable
from tunesmith.training.failures import RunFailedError

_ADAPTABLE = (torch.nn.Linear, torch.nn.Embedding, Conv1D)
"""Kinds of modules that take an adapter; GPT-2 calls its linear layers convolutions."""


DTYPES = {Precision.BF16: torch.bfloat16, Precision.FP32: torch.float32}
"""torch's name of each precision that `precision_here` returns."""


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


def load_config(entry: CatalogueEntry, base: BaseModel) -> PretrainedConfig:
    """Load the config of `base`. Raises `RunFailedError` where there is none."""
    try:
        return AutoConfig.from_pretrained(base.folder, trust_remote_code=entry.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise unavailable(entry, f"its config cannot be loaded. ({error})") from error


def context_length(config: PretrainedConfig) -> int | None:
    """Return the most tokens that the model takes at once; `None` where the config sets none."""
    # Each config knows this name, whatever it calls the number itself.
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return length if isinstance(length, int) and length > 0 else None


def check_targets(spec: TrainSpec, config: PretrainedConfig) -> None:
    """Raise `RunFailedError` if a LoRA target of `spec` names no module that takes an adapter.

    The model is built without its weights, so that this takes no memory to speak of.
    """
    if spec.lora.targets is None:
        return
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(
            config, trust_remote_code=spec.base_model.trust_remote_code
        )
    paths = [path for path, module in skeleton.named_modules() if isinstance(module, _ADAPTABLE)]
    missing = [
        target
        for target in spec.lora.targets
        if not any(f".{path}".endswith(f".{target}") for path in paths)
    ]
    if missing:
        raise RunFailedError(
            FailureCode.INVALID_HYPERPARAMETERS,
            f"The base model '{spec.base_model.name}' has no module to adapt named "
            f"{' or '.join(repr(name) for name in missing)}. Choose the LoRA targets from: "
            f"{', '.join(sorted({path.rpartition('.')[2] for path in paths}))}.",
            param="lora.targets",
        )


def load_model(spec: TrainSpec, base: BaseModel, *, precision: Precision) -> PeftModel:
    """Load `base` frozen in `precision`, with a new adapter in fp32 started from the seed.

    Raises `RunFailedError` where the model cannot be loaded.
    """
    entry = spec.base_model
    try:
        frozen = AutoModelForCausalLM.from_pretrained(
            base.folder,
            dtype=DTYPES[precision],
            trust_remote_code=entry.trust_remote_code,
        )
    except (OSError, ValueError, KeyError) as error:
        raise unavailable(entry, f"its weights cannot be loaded. ({error})") from error
    if spec.gradient_checkpointing:
        frozen.gradient_checkpointing_enable({"use_reentrant": False})
    leave_out_dropout(frozen)
    model = _with_adapter(frozen, spec)
    model.peft_config["default"].base_model_name_or_path = base.reference
    model.peft_config["default"].revision = base.revision
    model.train()
    return model


def leave_out_dropout(frozen: torch.nn.Module) -> None:
    """Let the frozen model drop nothing: the adapter has a dropout of its own, which is asked for.

    Some architectures would drop a tenth of everything, and attention by numbers of their own.
    """
    for module in frozen.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if name.endswith("dropout") and isinstance(value, float):
                setattr(module, name, 0.0)


def _with_adapter(frozen: torch.nn.Module, spec: TrainSpec) -> PeftModel:
    lora = spec.lora
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear" if lora.targets is None else list(lora.targets),
        use_rslora=lora.rslora,
        use_dora=lora.dora,
    )
    torch.manual_seed(spec.seed)
    return get_peft_model(frozen, config)
