"""How a tokenizer cuts texts is told by its file, and named as llama.cpp does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from tunesmith.inference.gguf_tokenizer import UnknownTokenizerError, cut_of

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_2 = LLAMA_3.replace("{1,3}", "")


def described(cut: Any, *, normalizer: Any = None, **model: Any) -> dict[str, Any]:
    """What is in the file of a tokenizer that cuts texts by `cut`."""
    tokenizer = Tokenizer(models.BPE(vocab={"a": 0}, merges=[], **model))
    tokenizer.pre_tokenizer = cut
    tokenizer.normalizer = normalizer
    found: dict[str, Any] = json.loads(tokenizer.to_str())
    return found


def split(regex: str) -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(regex), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
DIGITS = pre_tokenizers.Digits(individual_digits=True)


@pytest.mark.parametrize(
    ("cut", "normalizer", "name"),
    [
        (BYTES, None, "gpt-2"),
        (pre_tokenizers.Sequence([DIGITS, BYTES]), None, "smollm"),
        (split(QWEN_2), normalizers.NFC(), "qwen2"),
        (split(LLAMA_3), None, "llama-bpe"),
    ],
)
def test_each_known_way_has_its_name(cut: Any, normalizer: Any, name: str) -> None:
    assert cut_of(described(cut, normalizer=normalizer)) == name


@pytest.mark.parametrize(
    ("cut", "normalizer"),
    [
        (pre_tokenizers.Whitespace(), None),
        (split(LLAMA_3.replace("1,3", "1,4")), None),
        (BYTES, normalizers.Lowercase()),
        (pre_tokenizers.ByteLevel(add_prefix_space=True), None),
    ],
)
def test_another_way_is_refused(cut: Any, normalizer: Any) -> None:
    with pytest.raises(UnknownTokenizerError, match="known are those of: gpt-2, llama-bpe"):
        cut_of(described(cut, normalizer=normalizer))


def test_sentencepiece_is_refused_by_name() -> None:
    with pytest.raises(UnknownTokenizerError, match="SentencePiece"):
        cut_of(described(BYTES, byte_fallback=True))
