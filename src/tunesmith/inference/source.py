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
class Weights:
    """The folder of a model, and how transformers loads it."""

    folder: Path
    """Where its files are."""
    method: Method = Method.SUPERVISED
    """How it was tuned, which says what kind of model it is."""
    trusted: bool = False
    """Whether Python code beside the weights may be run."""

    def load(self, **options: Any) -> PreTrainedModel:
        """Return the model, fp32; transformers is given `options` too.

        Raises `ModelUnavailableError`.
        """
        if self.method is Method.RERANK:
            options["num_labels"] = 1
        try:
            model: PreTrainedModel = self._kind.from_pretrained(
                self.folder, dtype=torch.float32, trust_remote_code=self.trusted, **options
            )
        except (OSError, ValueError, KeyError) as error:
            message = f"The model's weights cannot be loaded: {error}."
            raise ModelUnavailableError(message) from error
        return model.eval()

    def in_four_bits(self) -> PreTrainedModel:
        """Return the model with its linear layers but the heads in 4 bits, as for training.

        Raises `ModelUnavailableError`.
        """
        config = AutoConfig.from_pretrained(self.folder, trust_remote_code=self.trusted)
        with torch.device("meta"):
            skeleton = self._kind.from_config(copy.deepcopy(config), trust_remote_code=self.trusted)
        try:
            wanted = nf4(torch.float32, whole=heads_of(skeleton))
        except ImportError as error:
            raise ModelUnavailableError(
                "The adapter was trained on weights in 4 bits, and the Python package "
                "'bitsandbytes' is not installed on this node. Install 'tunesmith[qlora]' there."
            ) from error
        model = self.load(quantization_config=wanted, device_map={"": "cpu"})
        keep_layout(model)
        return model

    def rounded(self) -> PreTrainedModel:
        """Return the model in fp32, with the weights that 4 bits say.

        Raises `ModelUnavailableError`.
        """
        plain = self.load()
        for path, module in self.in_four_bits().named_modules():
            if isinstance(module, torch.nn.Linear) and is_quantized(module):
                dequantize(module, plain.get_submodule(path).weight.data)
        return plain

    @property
    def _kind(self) -> Any:
        return _KINDS.get(self.method, AutoModelForCausalLM)


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

    def weights(self, folder: Path) -> Weights:
        """Return the model in `folder`, which is of the same kind."""
        return Weights(folder, self.spec.method, self.spec.base_model.trust_remote_code)


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


def as_trained(source: Source) -> PreTrainedModel | PeftModel:
    """Return the model as it was trained, in fp32: its adapter beside the weights beneath it.

    Those are in 4 bits where they were. Raises `ModelUnavailableError`.
    """
    if not source.adapted:
        return source.weights(source.tuned).load()
    below = source.weights(source.base)
    model = below.in_four_bits() if source.quantized else below.load()
    return PeftModel.from_pretrained(model, str(source.tuned)).eval()


def beneath(source: Source) -> PreTrainedModel:
    """Return the model beneath the adapter of `source`, fp32; what was in 4 bits is as these say.

    Raises `ModelUnavailableError`.
    """
    below = source.weights(source.base)
    return below.rounded() if source.quantized else below.load()


def heads_of(skeleton: PreTrainedModel) -> list[str]:
    """Return the names of the parts of `skeleton` beside its body."""
    children = dict(skeleton.named_children())
    body = skeleton.base_model_prefix
    return [name for name in children if name != body] if body in children else []
