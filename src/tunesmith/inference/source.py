"""The tuned model that is exported: where its parts are, and itself as it was trained."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.errors import ArtifactMissingError, ModelUnavailableError
from tunesmith.domain.spec import Method, TrainSpec
from tunesmith.models import bringing
from tunesmith.models.quantization import dequantize, is_quantized, keep_layout, nf4

_KINDS: dict[Method, Any] = {
    Method.EMBEDDING: AutoModel,
    Method.RERANK: AutoModelForSequenceClassification,
}
"""How transformers calls the kind of model that a method tunes; all others make texts."""


@dataclass(frozen=True)
class Source:
    """A tuned model, or a checkpoint, and what it stands upon."""

    spec: TrainSpec
    """The spec of the run that made it."""
    base: Path
    """The folder of the model beneath its adapter; of a whole model, its own."""
    tuned: Path
    """The folder that was handed out."""
    stored: torch.dtype
    """The number format of the base model's weights as they are stored."""

    @property
    def adapted(self) -> bool:
        """Whether it is an adapter, not a whole model."""
        return (self.tuned / "adapter_config.json").is_file()

    @property
    def quantized(self) -> bool:
        """Whether its adapter learnt on weights in 4 bits."""
        return self.adapted and self.spec.lora is not None and self.spec.lora.quantized

    @property
    def says(self) -> bool:
        """Whether it makes texts, not vectors or scores."""
        return self.spec.method not in _KINDS


def find_source(
    job_id: str, key: str, *, artifacts: Artifacts, announce: Callable[[str], None]
) -> Source:
    """Return the model that the job `job_id` put under `key`; its base model is brought.

    Raises `ModelUnavailableError`.
    """
    run = RunDirectory(artifacts, job_id)
    try:
        spec = run.read_spec()
        tuned = artifacts.fetch_folder(key)
    except ArtifactMissingError as error:
        raise ModelUnavailableError("The model is no longer there: it was deleted.") from error
    if not (tuned / "adapter_config.json").is_file():
        return Source(spec, tuned, tuned, torch.float32)
    entry = run.pinned_base_model() or spec.base_model
    if spec.beneath is not None:
        base = bringing.tuned(spec.beneath, artifacts)
    else:
        base = bringing.bring(entry, artifacts, announce=announce)
    config = AutoConfig.from_pretrained(base.folder, trust_remote_code=entry.trust_remote_code)
    stored = config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32
    return Source(spec, base.folder, tuned, stored)


def load_folder(source: Source, folder: Path, **options: Any) -> PreTrainedModel:
    """Load the model in `folder`, fp32, as the kind of model that `source` is.

    Raises `ModelUnavailableError`.
    """
    if source.spec.method is Method.RERANK:
        options["num_labels"] = 1
    kind = _KINDS.get(source.spec.method, AutoModelForCausalLM)
    try:
        model: PreTrainedModel = kind.from_pretrained(
            folder,
            dtype=torch.float32,
            trust_remote_code=source.spec.base_model.trust_remote_code,
            **options,
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelUnavailableError(f"The model's weights cannot be loaded: {error}.") from error
    return model.eval()


def as_trained(source: Source) -> PreTrainedModel | PeftModel:
    """Return the model as it was trained, in fp32: its adapter beside the weights beneath it.

    Those are in 4 bits where they were. Raises `ModelUnavailableError`.
    """
    if not source.adapted:
        return load_folder(source, source.tuned)
    model = _in_four_bits(source) if source.quantized else load_folder(source, source.base)
    return PeftModel.from_pretrained(model, str(source.tuned)).eval()


def beneath(source: Source) -> PreTrainedModel:
    """Return the model beneath the adapter of `source`, fp32; what was in 4 bits is as these say.

    Raises `ModelUnavailableError`.
    """
    plain = load_folder(source, source.base)
    if source.quantized:
        for path, module in _in_four_bits(source).named_modules():
            if isinstance(module, torch.nn.Linear) and is_quantized(module):
                dequantize(module, plain.get_submodule(path).weight.data)
    return plain


def _in_four_bits(source: Source) -> PreTrainedModel:
    """Load the model beneath with its linear layers but the heads in 4 bits, as for training."""
    kind = _KINDS.get(source.spec.method, AutoModelForCausalLM)
    trusted = source.spec.base_model.trust_remote_code
    config = AutoConfig.from_pretrained(source.base, trust_remote_code=trusted)
    with torch.device("meta"):
        skeleton = kind.from_config(copy.deepcopy(config), trust_remote_code=trusted)
    try:
        wanted = nf4(torch.float32, whole=heads_of(skeleton))
    except ImportError as error:
        raise ModelUnavailableError(
            "The adapter was trained on weights in 4 bits, and the Python package 'bitsandbytes' "
            "is not installed on this node. Install 'tunesmith[qlora]' there."
        ) from error
    model = load_folder(source, source.base, quantization_config=wanted, device_map={"": "cpu"})
    keep_layout(model)
    return model


def heads_of(skeleton: PreTrainedModel) -> list[str]:
    """Return the names of the parts of `skeleton` beside its body."""
    children = dict(skeleton.named_children())
    body = skeleton.base_model_prefix
    return [name for name in children if name != body] if body in children else []
