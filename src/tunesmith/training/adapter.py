"""Loads a base model in the wanted precision and makes it learn: an adapter on it, or all of it."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.pytorch_utils import Conv1D

from tunesmith.domain.failures import FailureCode
from tunesmith.domain.models import CatalogueEntry
from tunesmith.domain.spec import LoraSpec, Method, Precision, TrainSpec
from tunesmith.models.bringing import BaseModel, unavailable
from tunesmith.models.quantization import keep_layout, nf4
from tunesmith.training.devices import PROCESSOR, Place
from tunesmith.training.failures import RunFailedError
from tunesmith.training.whole_layers import check_whole_layers, is_tied, tie, whole_layers

_ADAPTABLE = (torch.nn.Linear, torch.nn.Embedding, Conv1D)
"""Kinds of modules that take an adapter; GPT-2 calls its linear layers convolutions."""

_COUNT_BEHIND_PADDING = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet"})
"""Families whose first position is that behind the padding token's id, so that they take fewer."""

_KINDS = {
    Method.EMBEDDING: (AutoModel, "FEATURE_EXTRACTION"),
    Method.RERANK: (AutoModelForSequenceClassification, "SEQ_CLS"),
}
_CAUSAL = (AutoModelForCausalLM, "CAUSAL_LM")
"""How transformers and peft call the kind of model that a method tunes; this for all others."""


DTYPES = {Precision.BF16: torch.bfloat16, Precision.FP32: torch.float32}
"""torch's name of each precision that `Place.precision` returns."""


def load_tokenizer(entry: CatalogueEntry, base: BaseModel) -> PreTrainedTokenizerBase:
    """Load the tokenizer of `base`. Raises `ModelUnavailableError` where there is none."""
    try:
        return AutoTokenizer.from_pretrained(base.folder, trust_remote_code=entry.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise unavailable(entry, f"its tokenizer cannot be loaded. ({error})") from error


def load_config(entry: CatalogueEntry, base: BaseModel) -> PretrainedConfig:
    """Load the config of `base`. Raises `ModelUnavailableError` where there is none."""
    try:
        return AutoConfig.from_pretrained(base.folder, trust_remote_code=entry.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise unavailable(entry, f"its config cannot be loaded. ({error})") from error


def context_length(config: PretrainedConfig) -> int | None:
    """Return the most tokens that the model takes at once; `None` where the config sets none."""
    # Each config knows this name, whatever it calls the number itself.
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(length, int) or length <= 0:
        return None
    offset = config.pad_token_id + 1 if config.model_type in _COUNT_BEHIND_PADDING else 0
    return length - offset


def check_targets(spec: TrainSpec, config: PretrainedConfig) -> None:
    """Raise `RunFailedError` if the model has not all that `spec` trains.

    The model is built without its weights, so that this takes no memory to speak of.
    """
    lora = spec.lora
    if lora is None or not (lora.targets or lora.also_train):
        return
    skeleton = _skeleton(spec, config)
    _check_adapted(spec, skeleton, targets=lora.targets or ())
    check_whole_layers(spec, skeleton)


def _check_adapted(spec: TrainSpec, skeleton: PreTrainedModel, *, targets: tuple[str, ...]) -> None:
    """Raise `RunFailedError` if one of `targets` names no module that takes an adapter."""
    paths = [path for path, module in skeleton.named_modules() if isinstance(module, _ADAPTABLE)]
    missing = [
        target for target in targets if not any(f".{path}".endswith(f".{target}") for path in paths)
    ]
    if missing:
        raise RunFailedError(
            FailureCode.INVALID_HYPERPARAMETERS,
            f"The base model '{spec.base_model.name}' has no module to adapt named "
            f"{' or '.join(repr(name) for name in missing)}. Choose the LoRA targets from: "
            f"{', '.join(sorted({path.rpartition('.')[2] for path in paths}))}.",
            param="lora.targets",
            change={"lora.targets": None},
        )


def _skeleton(spec: TrainSpec, config: PretrainedConfig) -> PreTrainedModel:
    """Return the kind of model that the method tunes, without its weights."""
    kind, _ = _KINDS.get(spec.method, _CAUSAL)
    with torch.device("meta"):
        skeleton: PreTrainedModel = kind.from_config(
            config, trust_remote_code=spec.base_model.trust_remote_code
        )
    return skeleton


def load_model(
    spec: TrainSpec,
    base: BaseModel,
    *,
    precision: Precision,
    padded: bool,
    place: Place = PROCESSOR,
    moved: bool = True,
) -> PeftModel | PreTrainedModel:
    """Load `base` to `place` as the kind of model that the method tunes, started from the seed.

    With an adapter, it is frozen in `precision`, or quantized, and the adapter is fp32. Where whole
    modules are trained (all, a reranker's new head, or embeddings and head in `padded` texts), all
    weights are fp32, and in `bf16` rounded for each product alone; for packed texts, `pack` makes
    what is trained fp32. Without `moved`, it stays on the processor for now.

    Raises `ModelUnavailableError` where the model cannot be loaded.
    """
    whole = spec.lora is None or spec.method is Method.RERANK
    whole = whole or (padded and spec.lora is not None and bool(spec.lora.also_train))
    rounded = precision is Precision.BF16
    dtype = torch.bfloat16 if rounded and not whole else torch.float32
    model = _load(spec, base, dtype=dtype, place=place)
    keep_layout(model)
    if rounded and whole:
        for module in {model, model.base_model}:
            module.forward = torch.autocast(place.name.type, torch.bfloat16)(module.forward)
    if spec.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if spec.lora is not None:
        leave_out_dropout(model)
        model = _with_adapter(model, spec.lora, spec=spec)
        model.peft_config["default"].base_model_name_or_path = base.reference
        model.peft_config["default"].revision = base.revision
    if moved and (spec.lora is None or not spec.lora.quantized):
        _move(model, place)
    model.train()
    return model


def _move(model: PeftModel | PreTrainedModel, place: Place) -> None:
    """Move `model` to `place`. Drawn on the processor, an adapter begins the same on any."""
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    tied = is_tied(inner)
    model.to(place.name)
    if tied and not is_tied(inner):
        # On Gaudi each use of a weight is moved for itself.
        inner.tie_weights()


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


def _load(spec: TrainSpec, base: BaseModel, *, dtype: torch.dtype, place: Place) -> PreTrainedModel:
    entry, (kind, _) = spec.base_model, _KINDS.get(spec.method, _CAUSAL)
    options: dict[str, Any] = {"num_labels": 1} if spec.method is Method.RERANK else {}
    if spec.lora is not None and spec.lora.quantized:
        options |= _in_four_bits(spec, base, dtype=dtype) | {"device_map": {"": place.name}}
    # A reranker's head is new in most base models: it is drawn here.
    torch.manual_seed(spec.seed)
    try:
        model = kind.from_pretrained(
            base.folder, dtype=dtype, trust_remote_code=entry.trust_remote_code, **options
        )
    except (OSError, ValueError, KeyError) as error:
        raise unavailable(entry, f"its weights cannot be loaded. ({error})") from error
    if spec.method is Method.RERANK and model.config.pad_token_id is None:
        raise unavailable(
            entry,
            "its config names no padding token (pad_token_id), so that a reranker made of it could "
            "not tell where a text ends. Choose an encoder, such as one of the BERT family.",
        )
    return model


def _in_four_bits(spec: TrainSpec, base: BaseModel, *, dtype: torch.dtype) -> dict[str, Any]:
    """Return what `from_pretrained` is told, that all linear layers but the heads take 4 bits."""
    skeleton = _skeleton(spec, load_config(spec.base_model, base))
    children = dict(skeleton.named_children())
    body = skeleton.base_model_prefix
    heads = [name for name in children if name != body] if body in children else []
    try:
        config = nf4(dtype, whole=heads)
    except ImportError as error:
        raise RunFailedError(
            FailureCode.MODEL_UNAVAILABLE,
            "The base model cannot be kept in 4 bits, since the Python package 'bitsandbytes' is "
            "not installed on this node. Install 'tunesmith[qlora]' there, or set the adapter's "
            "kind to 'lora'.",
            param="tuning.adapter.kind",
            change={"lora": {}} if spec.start_from is None else None,
        ) from error
    return {"quantization_config": config}


def _with_adapter(frozen: PreTrainedModel, lora: LoraSpec, *, spec: TrainSpec) -> PeftModel:
    _, task = _KINDS.get(spec.method, _CAUSAL)
    layers = whole_layers(frozen, lora)
    tied = bool(layers) and is_tied(frozen)
    config = LoraConfig(
        task_type=task,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear" if lora.targets is None else list(lora.targets),
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        modules_to_save=list(layers) or None,
        # So peft ties the copies when it loads them; it has no place for a tied head's bias.
        ensure_weight_tying=tied and frozen.get_output_embeddings().bias is None,
    )
    torch.manual_seed(spec.seed)
    adapted = get_peft_model(frozen, config)
    if tied:
        tie(adapted, config, layers=layers)
    return adapted
