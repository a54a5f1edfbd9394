"""Makes one plain model of a base model and its adapter, and saves it as transformers does."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel

from tunesmith.inference.source import Source, beneath

_WEIGHTS = ("adapter_", "model.safetensors", "model-", "pytorch_model")
_OWN = ("config.json", "generation_config.json", "README.md")


def merged(source: Source) -> PreTrainedModel:
    """Return the model of `source` without any adapter, fp32.

    Adapters of any kind go into the weights: factors, their magnitudes, whole layers. Raises
    `ModelUnavailableError`.
    """
    if not source.adapted:
        return source.weights(source.tuned).load()
    adapted = PeftModel.from_pretrained(beneath(source), str(source.tuned))
    plain: PreTrainedModel = adapted.merge_and_unload()
    _tie(plain)
    return plain.eval()


def _tie(model: PreTrainedModel) -> None:
    """Let head and embeddings of `model` be one weight again, or two where they differ by now.

    Where both were trained as a whole, peft has a copy of each.
    """
    head = model.get_output_embeddings()
    if head is None or not getattr(model.config.get_text_config(), "tie_word_embeddings", False):
        return
    embeddings = model.get_input_embeddings()
    if torch.equal(head.weight, embeddings.weight):
        head.weight = embeddings.weight
    else:
        model.config.get_text_config().tie_word_embeddings = False


def save_merged(
    model: PreTrainedModel, folder: Path, *, source: Source, dtype: torch.dtype, ends: Iterable[int]
) -> None:
    """Save `model` to `folder` in `dtype`, with the tokenizer and template that it learnt with.

    `ends` are the tokens that end its answers, which `generate` is told of.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if source.says:
        config = model.generation_config or GenerationConfig.from_model_config(model.config)
        config.eos_token_id = sorted(ends) or None
        model.generation_config = config
    model.to(dtype).save_pretrained(folder)
    copy_beside(source.tuned, folder)
    # safetensors makes files for their owner alone; these are handed out.
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)


def copy_beside(tuned: Path, folder: Path) -> None:
    """Copy what lies in `tuned` beside the weights: the tokenizer, its template, the pooling."""
    for path in sorted(tuned.rglob("*")):
        name = path.relative_to(tuned).as_posix()
        own = name in _OWN or name.startswith(_WEIGHTS) or "checkpoint-" in name
        if path.is_file() and not own:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
