"""The adapters of one base model that are in memory, all of which answer together.

The tokens of a pass may have different adapters, or none: a layer multiplies once with the factors
of all of them, and each token keeps what its own adapter makes (Hu et al. 2021, arXiv:2106.09685,
for many adapters at once). What goes beyond plain factors is merged into a model of its own.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tunesmith.inference.packing import Product, product_with

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""The files of an adapter, as `peft` saves them."""

_KEY = re.compile(r"base_model\.model\.(.+)\.lora_(A|B)\.weight")


class NotPlainError(Exception):
    """The adapter is more than factors of linear layers, so that it has to be merged."""


@dataclass(frozen=True)
class Adapter:
    """The factors of an adapter."""

    factors: dict[str, tuple[torch.Tensor, torch.Tensor]]
    """By the path of the layer: (rank, inputs), and with the scale in it (outputs, rank)."""

    @classmethod
    def read(cls, folder: Path, *, dtype: torch.dtype) -> Adapter:
        """Read the adapter in `folder`. Raises `NotPlainError`."""
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        refuse_what_is_more(config)
        found: dict[str, dict[str, torch.Tensor]] = {}
        for key, weight in load_file(folder / WEIGHTS).items():
            match = _KEY.fullmatch(key)
            if match is None:
                raise NotPlainError(f"it has weights called '{key}'")
            found.setdefault(match[1], {})[match[2]] = weight
        rank = config["r"]
        scale = config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)
        return cls(
            {
                path: (pair["A"].to(dtype), (pair["B"].float() * scale).to(dtype))
                for path, pair in found.items()
            }
        )


def refuse_what_is_more(config: dict[str, Any]) -> None:
    """Raise `NotPlainError` where an adapter's `config` says that it is more than factors."""
    for name in ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "lora_bias"):
        if config.get(name):
            raise NotPlainError(f"its config has '{name}'")
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none":
        raise NotPlainError("it is not LoRA alone")


@dataclass(frozen=True)
class _Joined:
    """The factors of all adapters in one layer."""

    first: Product
    """From inputs to ranks."""
    second: Product
    """From ranks to outputs."""
    places: tuple[int, ...]
    """The place of the adapter that each rank is of."""


class Factors:
    """Adds to the linear layers of a model what the adapters of a batch make."""

    def __init__(self, model: PreTrainedModel, *, rows: int) -> None:
        """Stand between the linear layers of `model` and whoever calls them.

        Most calls have `rows` tokens. The layers lose their own weights, which are kept here in
        another order, unless the embedding has the same.
        """
        self._layers: dict[str, Any] = {
            path: module
            for path, module in model.named_modules()
            if isinstance(module, nn.Linear | Conv1D)
        }
        self._count = rows
        self._adapters: dict[int, Adapter] = {}
        self._joined: dict[str, _Joined] = {}
        self._tokens: tuple[int | None, ...] = ()
        self._kept: tuple[int | None, ...] = ()
        self._masks: dict[tuple[int, tuple[int, ...]], torch.Tensor] = {}
        words = model.get_input_embeddings().weight
        for path, module in self._layers.items():
            weight = module.weight.t() if isinstance(module, Conv1D) else module.weight
            own = product_with(weight, module.bias, rows=rows)
            module.forward = partial(self._forward, path, own=own)
            if module.weight is not words:
                module.weight = nn.Parameter(weight.new_empty(0), requires_grad=False)

    def put(self, place: int, adapter: Adapter) -> None:
        """Let tokens with the number `place` have `adapter`, in place of another one's.

        Raises `NotPlainError` where the model lacks a layer that the adapter has factors of.
        """
        missing = adapter.factors.keys() - self._layers.keys()
        if missing:
            raise NotPlainError(f"the base model has no linear layer '{min(missing)}'")
        self._adapters[place] = adapter
        self._join()

    def choose(self, tokens: Sequence[int | None], *, kept: Sequence[int]) -> None:
        """Let each token of the next pass have the adapter at its place, or none.

        Those numbered in `kept` alone go through the model's head.
        """
        chosen = tuple(tokens), tuple(tokens[at] for at in kept)
        if chosen != (self._tokens, self._kept):
            (self._tokens, self._kept), self._masks = chosen, {}

    def _join(self) -> None:
        self._joined, self._masks = {}, {}
        paths = dict.fromkeys(path for each in self._adapters.values() for path in each.factors)
        for path in paths:
            there = {
                place: adapter.factors[path]
                for place, adapter in sorted(self._adapters.items())
                if path in adapter.factors
            }
            self._joined[path] = _Joined(
                first=product_with(torch.cat([a for a, _ in there.values()]), rows=self._count),
                second=product_with(
                    torch.cat([b for _, b in there.values()], dim=1), rows=self._count
                ),
                places=tuple(
                    place for place, (first, _) in there.items() for _ in range(len(first))
                ),
            )

    def _forward(self, path: str, states: torch.Tensor, *, own: Product) -> torch.Tensor:
        made = own(states)
        joined = self._joined.get(path)
        if joined is None or not any(each is not None for each in self._tokens):
            return made
        # Some models leave out the dimension of the batch here.
        by_token = states.reshape(-1, states.shape[-1])
        mask = self._mask(len(by_token), joined.places, dtype=made.dtype)
        inner = joined.first(by_token).mul_(mask)
        return joined.second.added(made, inner.view(*made.shape[:-1], -1))

    def _mask(self, count: int, places: tuple[int, ...], *, dtype: torch.dtype) -> torch.Tensor:
        """Return 1 where a rank is of the adapter of one of `count` tokens, else 0.

        It is (tokens, ranks).
        """
        mask = self._masks.get((count, places))
        if mask is None:
            # Where each text has one token, all are kept.
            chosen = self._tokens if count == len(self._tokens) else self._kept
            tokens = torch.tensor([-1 if each is None else each for each in chosen])
            mask = (tokens[:, None] == torch.tensor(places)).to(dtype)
            self._masks[count, places] = mask
        return mask
