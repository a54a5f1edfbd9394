"""A tokenizer as GGUF has it, for llama.cpp to cut texts exactly as in training.

GGUF names the way in which texts are cut before merges apply, and llama.cpp knows each by its name.
It is chosen by how the tokenizer does cut, which its file says, not by the model's name: of two
tokenizers of the same family, one may have lost a rule on its way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, TokenType

_DIGITS = {"type": "Digits", "individual_digits": True}
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_PLAIN_BYTES = {**_BYTES, "use_regex": False}
_WORD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _split(regex: str) -> list[dict[str, Any]]:
    pattern = {"Regex": regex}
    return [
        {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False},
        _PLAIN_BYTES,
    ]


_CUTS: Mapping[str, list[dict[str, Any]]] = {
    "gpt-2": [_BYTES],
    "smollm": [_DIGITS, _BYTES],
    "qwen2": _split(rf"{_WORD}|\p{{N}}|{_REST}"),
    "llama-bpe": _split(rf"{_WORD}|\p{{N}}{{1,3}}|{_REST}"),
}
"""How texts are cut, by llama.cpp's names, as the tokenizers library describes it."""

_NEVER = ("\u2205", "\u2205")
"""A merge of what no text has, for a tokenizer without any, which llama.cpp does not load."""


class UnknownTokenizerError(Exception):
    """GGUF has no name for how this tokenizer cuts texts."""


@dataclass(frozen=True)
class _Token:
    text: str
    kind: TokenType


def write_tokenizer(writer: GGUFWriter, folder: Path, *, size: int) -> None:
    """Write the tokenizer in `folder` to `writer`, filled up to the `size` of the vocabulary.

    Raises `UnknownTokenizerError`.
    """
    described = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    config = _read(folder / "tokenizer_config.json")
    pre = cut_of(described)
    tokens = list(_tokens(described, size=size))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([token.text for token in tokens])
    writer.add_token_types([token.kind for token in tokens])
    merges = described["model"]["merges"] or [_NEVER]
    writer.add_token_merges([each if isinstance(each, str) else " ".join(each) for each in merges])
    _write_named(writer, config, ids={token.text: at for at, token in enumerate(tokens)})
    begins, ends = _written_around(described)
    writer.add_add_space_prefix(False)
    writer.add_add_bos_token(begins)
    writer.add_add_eos_token(ends)
    template = folder / "chat_template.jinja"
    held = template.read_text(encoding="utf-8") if template.is_file() else None
    held = held or config.get("chat_template")
    if isinstance(held, str):
        writer.add_chat_template(held)


def cut_of(described: Mapping[str, Any]) -> str:
    """Return llama.cpp's name for how the tokenizer cuts texts that `described`, its file, is of.

    Raises `UnknownTokenizerError`.
    """
    model = described["model"]
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        kind = "SentencePiece's" if model.get("byte_fallback") else f"of the kind {model['type']}"
        raise UnknownTokenizerError(
            f"its tokenizer is {kind}; those of byte-level BPE alone are written"
        )
    steps = described.get("pre_tokenizer") or {}
    steps = steps["pretokenizers"] if steps.get("type") == "Sequence" else [steps]
    shown = [{name: step[name] for name in step if name != "trim_offsets"} for step in steps]
    # Qwen's composes characters before anything else, which llama.cpp leaves to who writes to it.
    normalizer = (described.get("normalizer") or {}).get("type")
    for name, cut in _CUTS.items():
        if shown == cut and normalizer in ((None, "NFC") if name == "qwen2" else (None,)):
            return name
    raise UnknownTokenizerError(
        "its tokenizer cuts texts in a way that is not known to be one of llama.cpp's; known are "
        f"those of: {', '.join(sorted(_CUTS))}"
    )


def _tokens(described: Mapping[str, Any], *, size: int) -> Iterator[_Token]:
    by_id = {at: _Token(text, TokenType.NORMAL) for text, at in described["model"]["vocab"].items()}
    for added in described.get("added_tokens", ()):
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        by_id[added["id"]] = _Token(added["content"], kind)
    # What is beyond the embeddings, the model can neither read nor say.
    for at in range(size):
        yield by_id.get(at, _Token(f"[PAD{at}]", TokenType.UNUSED))


def _write_named(writer: GGUFWriter, config: Mapping[str, Any], *, ids: Mapping[str, int]) -> None:
    for name in ("bos", "eos", "unk", "pad", "sep"):
        token = config.get(f"{name}_token")
        text = token["content"] if isinstance(token, dict) else token
        if isinstance(text, str) and text in ids:
            getattr(writer, f"add_{name}_token_id")(ids[text])


def _written_around(described: Mapping[str, Any]) -> tuple[bool, bool]:
    """Return whether the tokenizer writes a token before, and one behind, each text."""
    processor = described.get("post_processor") or {}
    steps = processor.get("processors", [processor])
    parts = [part for step in steps for part in step.get("single", ())]
    kinds = ["Sequence" in part for part in parts]
    return bool(kinds) and not kinds[0], bool(kinds) and not kinds[-1]


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
