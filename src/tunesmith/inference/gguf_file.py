"""Writes a model as one GGUF file, in the layout that llama.cpp has for its architecture.

Names of tensors and of fields are the `gguf` package's own. What differs by architecture, and is
tested by asking llama.cpp, is stated here: which fields there are, and which weights lie otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gguf
import torch
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType
from transformers import PretrainedConfig, PreTrainedModel

from tunesmith.domain.exports import Quantization
from tunesmith.inference.gguf_tokenizer import UnknownTokenizerError, write_tokenizer


class _Rearranged(Protocol):
    def __call__(
        self, name: str, weight: torch.Tensor, /, *, config: PretrainedConfig
    ) -> torch.Tensor: ...


_TYPES = {
    Quantization.F32: (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    Quantization.F16: (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    Quantization.BF16: (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    Quantization.Q8_0: (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}
_BLOCK = 32
"""Weights of a row that Q8_0 takes together; a matrix with another width is kept in F16."""


class UnsupportedError(Exception):
    """The model cannot be written as GGUF; the message completes "The model cannot be…"."""


def _as_it_is(name: str, weight: torch.Tensor, *, config: PretrainedConfig) -> torch.Tensor:  # noqa: ARG001  all are called alike
    return weight


def _rotary_pairs(name: str, weight: torch.Tensor, *, config: PretrainedConfig) -> torch.Tensor:
    """Bring the two dimensions that are rotated together next to each other.

    transformers has them half a head apart.
    """
    if ".q_proj." in name:
        heads = config.num_attention_heads
    elif ".k_proj." in name:
        heads = config.num_key_value_heads
    else:
        return weight
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.transpose(1, 2).reshape(weight.shape)


def _whole_norms(name: str, weight: torch.Tensor, *, config: PretrainedConfig) -> torch.Tensor:  # noqa: ARG001
    """Add the 1 that Gemma's norms add to their weights."""
    return weight + 1 if name.endswith("norm.weight") else weight


def _convolutions(name: str, weight: torch.Tensor, *, config: PretrainedConfig) -> torch.Tensor:  # noqa: ARG001
    """Turn GPT-2's linear layers, whose weights lie the other way round."""
    turned = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")
    return weight.t() if name.endswith(turned) else weight


@dataclass(frozen=True)
class _Layout:
    """How llama.cpp has an architecture."""

    architecture: gguf.MODEL_ARCH
    """Its name there."""
    rearranged: _Rearranged = _as_it_is
    """What becomes of a weight."""
    sliding: bool = False
    """Whether the file tells of a window of attention."""
    always_tied: bool = False
    """Whether its head always is the embeddings."""


_LAYOUTS = {
    "llama": _Layout(gguf.MODEL_ARCH.LLAMA, _rotary_pairs),
    "mistral": _Layout(gguf.MODEL_ARCH.LLAMA, _rotary_pairs),
    "qwen2": _Layout(gguf.MODEL_ARCH.QWEN2),
    "qwen3": _Layout(gguf.MODEL_ARCH.QWEN3),
    "gemma2": _Layout(gguf.MODEL_ARCH.GEMMA2, _whole_norms, sliding=True, always_tied=True),
    "phi3": _Layout(gguf.MODEL_ARCH.PHI3, sliding=True),
    "gpt2": _Layout(gguf.MODEL_ARCH.GPT2, _convolutions),
}
"""The layouts by transformers' names of the architectures."""

ARCHITECTURES = tuple(sorted(_LAYOUTS))
"""What can be written."""


def write_gguf(
    model: PreTrainedModel, path: Path, *, tokenizer: Path, quantization: Quantization, name: str
) -> None:
    """Write `model` to `path`, its matrices in `quantization`, with the tokenizer of a folder.

    Vectors stay in F32. Raises `UnsupportedError`.
    """
    config = model.config
    layout = _layout(config)
    writer = GGUFWriter(str(path), gguf.MODEL_ARCH_NAMES[layout.architecture])
    try:
        writer.add_type(gguf.GGUFType.MODEL)
        writer.add_name(name)
        kind, file_type = _TYPES[quantization]
        writer.add_file_type(file_type)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _write_sizes(writer, config, layout=layout)
        size = model.get_input_embeddings().weight.shape[0]
        try:
            write_tokenizer(writer, tokenizer, size=size)
        except UnknownTokenizerError as error:
            raise UnsupportedError(f"written as GGUF: {error}") from error
        for tensor, weight in _tensors(model, layout):
            _add(writer, tensor, weight=weight, kind=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _layout(config: PretrainedConfig) -> _Layout:
    layout = _LAYOUTS.get(config.model_type)
    if layout is None:
        raise UnsupportedError(
            f"written as GGUF: its architecture '{config.model_type}' is none of those that can be "
            f"({', '.join(ARCHITECTURES)})"
        )
    rope = _rope(config)
    if rope.get("rope_type", "default") != "default":
        raise UnsupportedError(
            f"written as GGUF: its positions are scaled by '{rope['rope_type']}', which is not "
            "written yet"
        )
    scaled = getattr(config, "query_pre_attn_scalar", None)
    if scaled is not None and scaled != config.head_dim:
        raise UnsupportedError(
            f"written as GGUF: its attention is scaled by {scaled}, where "
            f"llama.cpp takes the width of a head, {config.head_dim}"
        )
    window = getattr(config, "sliding_window", None)
    if layout.architecture is gguf.MODEL_ARCH.LLAMA and window:
        raise UnsupportedError(
            f"written as GGUF: its attention sees the last {window} tokens alone, which llama.cpp "
            f"does not do for '{config.model_type}'"
        )
    return layout


def _rope(config: PretrainedConfig) -> dict[str, Any]:
    """Return how positions are written."""
    found: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    return found


def _write_sizes(writer: GGUFWriter, config: PretrainedConfig, *, layout: _Layout) -> None:
    # GPT-2's config knows the usual names as well; its blocks are four times as wide by default.
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    if layout.architecture is gguf.MODEL_ARCH.GPT2:
        writer.add_feed_forward_length(config.n_inner or 4 * config.hidden_size)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(width)
    writer.add_value_length(width)
    rope = _rope(config)
    turned = int(width * rope.get("partial_rotary_factor", 1.0))
    writer.add_rope_dimension_count(turned)
    writer.add_rope_freq_base(rope["rope_theta"])
    if layout.sliding:
        writer.add_sliding_window(getattr(config, "sliding_window", None) or 0)
        original = getattr(config, "original_max_position_embeddings", None)
        if original is not None:
            writer.add_rope_scaling_orig_ctx_len(original)
    for cap, write in (
        ("attn_logit_softcapping", writer.add_attn_logit_softcapping),
        ("final_logit_softcapping", writer.add_final_logit_softcapping),
    ):
        if getattr(config, cap, None):
            write(getattr(config, cap))


def _tensors(model: PreTrainedModel, layout: _Layout) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the weights of `model` under GGUF's names, as they lie there."""
    config = model.config
    names = gguf.get_tensor_name_map(layout.architecture, config.num_hidden_layers)
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    tied = layout.always_tied or head.weight is embeddings.weight
    for name, weight in model.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise UnsupportedError(f"written as GGUF: there is no place for its weights '{name}'")
        yield found, layout.rearranged(name, weight.float(), config=config)


def _add(
    writer: GGUFWriter, name: str, *, weight: torch.Tensor, kind: GGMLQuantizationType
) -> None:
    data = weight.contiguous().numpy()
    if data.ndim == 1 or name.startswith("position_embd"):
        kind = GGMLQuantizationType.F32
    elif kind is GGMLQuantizationType.Q8_0 and data.shape[-1] % _BLOCK:
        kind = GGMLQuantizationType.F16
    writer.add_tensor(name, gguf.quants.quantize(data, kind), raw_dtype=kind)
