"""Makes a causal language model ready for packed texts, and sees that it stays the same model.

Nothing here knows a model by name. Linear layers are found by their kind, those that share an
input by watching one small pass; then some texts go through the model packed and each alone, and
unless both ways agree, the model is not used packed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora.layer import LoraLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tunesmith.training.attention import PACKED_ATTENTION
from tunesmith.training.devices import PROCESSOR, Place
from tunesmith.training.elementwise import replace_norms, replace_rotations
from tunesmith.training.examples import MicroBatch, micro_batch_of
from tunesmith.training.failures import is_memory
from tunesmith.training.feed_forward import replace_feed_forwards
from tunesmith.training.kernels import kernels
from tunesmith.training.masked_attention import MASKED_ATTENTION
from tunesmith.training.network import Network
from tunesmith.training.products import ADAPTER, Part, SharedProduct

_LINEAR = (nn.Linear, Conv1D)
"""Linear layers; those in 4 bits are of the first kind too."""
_TEXTS = (7, 6)
"""Tokens of the texts that both ways are compared on."""
_ALIKE = 3
"""Tokens that the last of them begins with as the first does."""
_AGREES = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""Largest difference of the logits, relative to their size. In bf16, rounding alone makes 3 % with
SmolLM2-135M; texts that see each other differ by 28 %."""


_PADDING = 2
"""How many times as many places padded texts may take: for them, attention alone computes."""


ALL_TRAINED = "all of its weights are trained, none frozen"
SCALED = "DoRA scales each layer's whole result"
"""Why a model cannot be used packed, whichever it is."""


class NotPackableError(Exception):
    """The model cannot be used packed; it may be changed already and must be loaded anew."""


@torch.no_grad()
def pack(
    model: PeftModel | PreTrainedModel, dtype: torch.dtype, *, place: Place = PROCESSOR
) -> Network:
    """Make `model`, frozen but for its adapter, ready for packed texts, multiplied in `dtype`.

    It is at `place`.

    Raises `NotPackableError` where it gives another result so than text by text.
    """
    if not isinstance(model, PeftModel):
        raise NotPackableError(ALL_TRAINED)
    inner = model.get_base_model()
    if any(layer.use_dora.get(ADAPTER) for layer in _adapters(inner)):
        raise NotPackableError(SCALED)
    if getattr(inner.config.get_text_config(), "attention_chunk_size", None):
        # It shows on texts alone that are longer than those that both ways are compared on.
        raise NotPackableError("its attention goes by chunks of a text")
    training = model.training
    model.eval()
    with ExitStack() as placed:
        network = _packed(model, dtype, place=place, placed=placed)
        placed.pop_all()
    model.train(training)
    return network


def _packed(model: PeftModel, dtype: torch.dtype, *, place: Place, placed: ExitStack) -> Network:
    """Return `model` packed; what is undone where that fails is put in `placed`."""
    inner, texts = model.get_base_model(), probe(model.get_base_model())
    try:
        shared, wanted = _sharing(model, texts.alone, place=place)
        inner.set_attn_implementation(PACKED_ATTENTION if place.is_cpu else MASKED_ATTENTION)
        _keep_sums(inner, dtype)
        products = [SharedProduct(parts, dtype) for parts in shared]
        replace_feed_forwards(inner, products, at_once=place.rules.pieces.numbers)
        fast = kernels(dtype, place.name)
        replace_norms(inner, fast)
        placed.callback(replace_rotations(inner, fast))
        network = Network(
            model,
            packed=dtype,
            products=products,
            padding=_PADDING if place.is_cpu else None,
            place=place,
        )
        network.shares_prefixes = place.is_cpu and not _drops(inner)
        found = _logits(network, texts.together)
    # Whatever a model's own code raises when it is asked for what it does not know.
    except Exception as error:
        if is_memory(error):
            raise
        raise NotPackableError(f"its code does not take packed texts ({error})") from error
    check_same(found, wanted, dtype=dtype)
    return network


def _drops(inner: PreTrainedModel) -> bool:
    """Whether something is left out by chance, in each text something else."""
    return any(isinstance(one, nn.Dropout) and one.p > 0 for one in inner.modules())


def check_same(found: torch.Tensor, wanted: torch.Tensor, *, dtype: torch.dtype) -> None:
    """Raise `NotPackableError` unless what was `found` is what was `wanted`, but for rounding."""
    difference = float((found - wanted).norm() / wanted.norm())
    if not difference < _AGREES[dtype]:
        raise NotPackableError(f"its results differ by {difference:.1%} from those of texts alone")


@dataclass(frozen=True)
class Probe:
    """Texts, together and each alone."""

    together: MicroBatch
    """All, packed."""
    alone: list[MicroBatch]
    """Each."""


def probe(inner: PreTrainedModel) -> Probe:
    """Return short texts of `inner`'s vocabulary, drawn always the same."""
    vocabulary = inner.get_input_embeddings().weight.shape[0]
    drawn = torch.Generator().manual_seed(0)
    ids = [torch.randint(vocabulary, (length,), generator=drawn) for length in _TEXTS]
    ids[-1][:_ALIKE] = ids[0][:_ALIKE]
    return Probe(micro_batch_of(ids), [micro_batch_of([one]) for one in ids])


def _logits(network: Network, text: MicroBatch) -> torch.Tensor:
    return network.logits(text, torch.arange(text.tokens)).float()


def _adapters(inner: PreTrainedModel) -> list[LoraLayer]:
    return [
        module
        for module in inner.modules()
        if isinstance(module, LoraLayer) and isinstance(module.base_layer, _LINEAR)
    ]


def _parts(inner: PreTrainedModel) -> Iterator[Part]:
    """Yield the linear layers of `inner` but for its head, each with its adapter."""
    adapters = _adapters(inner)
    around = {id(layer.base_layer): layer for layer in adapters if _is_plain(layer)}
    own = {
        id(module)
        for layer in adapters
        for module in (*layer.lora_A.values(), *layer.lora_B.values())
    }
    own |= _head(inner)
    for module in inner.modules():
        if isinstance(module, _LINEAR) and id(module) not in own:
            yield Part(module, around.get(id(module)))


def _head(inner: PreTrainedModel) -> set[int]:
    """Return the ids of the head and, where a copy of it is trained, of that too."""
    return {id(module) for module in inner.get_output_embeddings().modules()}


def _is_plain(layer: LoraLayer) -> bool:
    """Tell whether nothing happens to the input before the adapter's first factor."""
    return isinstance(layer.lora_dropout[ADAPTER], nn.Identity)


def _sharing(
    model: PeftModel, alone: Sequence[MicroBatch], *, place: Place
) -> tuple[list[list[Part]], torch.Tensor]:
    """Return the linear layers of `model`, those with the same input together.

    They are seen at work on the first text of `alone`. With them come the logits of all texts,
    (tokens, vocabulary).
    """
    parts, network = list(_parts(model.get_base_model())), Network(model, place=place)
    with _watched(parts) as calls:
        logits = [_logits(network, alone[0])]
    logits += [_logits(network, text) for text in alone[1:]]
    shared: list[list[Part]] = []
    before: torch.Tensor | None = None
    for number, states in calls.items():
        if states is before:
            shared[-1].append(parts[number])
        else:
            shared.append([parts[number]])
        before = states
    uncalled = [[part] for number, part in enumerate(parts) if number not in calls]
    return shared + uncalled, torch.cat(logits)


@contextmanager
def _watched(parts: Sequence[Part]) -> Iterator[dict[int, torch.Tensor]]:
    """Note which of `parts` is called with what, in order; the first time of each counts."""
    calls: dict[int, torch.Tensor] = {}
    with ExitStack() as hooks:
        for number, part in enumerate(parts):

            def note(_: nn.Module, given: tuple[Any, ...], number: int = number) -> None:
                calls.setdefault(number, given[0])

            hooks.callback(part.called.register_forward_pre_hook(note).remove)
        yield calls


def _keep_sums(inner: PreTrainedModel, dtype: torch.dtype) -> None:
    """Let all but the factors of products be in fp32."""
    if dtype == torch.float32:
        return
    for weight in inner.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    products = {id(part.frozen) for part in _parts(inner)} | _head(inner)
    for module in inner.modules():
        if type(module) is nn.Embedding:
            # Looked up in the weights' own precision, which loses nothing.
            module.register_forward_hook(lambda _module, _given, found: found.float())
        elif id(module) not in products:
            for weight in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                if weight.is_floating_point():
                    weight.data = weight.data.float()
