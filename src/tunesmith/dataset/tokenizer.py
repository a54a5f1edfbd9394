"""A model's tokenizer and chat template from its folder, without torch or transformers.

It gives the very ids and texts that transformers' fast tokenizer gives for a
folder which transformers saved, and imports in a moment.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Encoding
from tokenizers import Tokenizer as Backend

from tunesmith.dataset.counting import Counted, SpanCounter
from tunesmith.dataset.rendering import Rendered
from tunesmith.dataset.templates import compiled
from tunesmith.domain.errors import TokenizerMissingError

TOKENIZER_FILE = "tokenizer.json"
"""The file without which a folder holds no tokenizer that is read here."""

_CONFIG = "tokenizer_config.json"
_OLDER_NAMES = "special_tokens_map.json"
_TEMPLATE = "chat_template.jinja"
_MORE_TEMPLATES = "additional_chat_templates"
_NAMED = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
_EXTRA = ("extra_special_tokens", "additional_special_tokens")
_SCORING = "ForSequenceClassification"
# What configs of different families call the most tokens that a model takes at once.
_CONTEXTS = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length")


class FolderTokenizer:
    """The tokenizer in a model's folder; it can be sent to another process."""

    def __init__(self, folder: Path) -> None:
        """Load it from `folder`. Raises `TokenizerMissingError` where there is none to be read."""
        config = _read_json(folder / _CONFIG)
        self._folder = folder
        self._named = _named_tokens(_read_json(folder / _OLDER_NAMES) | config)
        self._special = _all_special(config, self._named)
        self._backend = _backend(folder / TOKENIZER_FILE, self._special)
        self._backend.encode_special_tokens = bool(config.get("split_special_tokens", False))
        self._counter = SpanCounter(self._backend)
        self.chat_template: str | dict[str, str] | None = _templates(folder, config)
        """The Jinja template of a conversation, or those that there are by their names."""
        model = _read_json(folder / "config.json")
        self.context_length = _context_length(model)
        """Most tokens that the model takes at once; `None` where its config sets none."""
        self.of_reranker = _scores(model)
        """Whether the model says of itself that it scores texts, as rerankers do."""

    def __reduce__(self) -> tuple[type[FolderTokenizer], tuple[Path], dict[str, Any]]:
        """Load it anew in the other process, which is quicker than to send all of it."""
        return FolderTokenizer, (self._folder,), {"chat_template": self.chat_template}

    @property
    def bos_token(self) -> str | None:
        """The token that begins a text."""
        return self._named.get("bos_token")

    @property
    def eos_token(self) -> str | None:
        """The token that ends a text."""
        return self._named.get("eos_token")

    @property
    def all_special_tokens(self) -> Sequence[str]:
        """The tokens that are no text, in their written form."""
        return self._special

    def apply_chat_template(
        self,
        conversation: list[dict[str, Any]],
        *,
        tools: list[Any] | None,
        tokenize: bool,
        add_generation_prompt: bool,
    ) -> str:
        """Return the text of the conversation; `tokenize` must be false.

        Raises whatever the template raises.
        """
        if tokenize:
            raise ValueError("This tokenizer renders texts; encode them with `encode`.")
        template = self._template(tools=tools is not None)
        return compiled(template).render(
            messages=conversation,
            tools=tools,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **self._named,
        )

    def __call__(
        self, text: str, *, add_special_tokens: bool, return_offsets_mapping: bool
    ) -> Mapping[str, Any]:
        """Return `input_ids` and, where asked for, `offset_mapping` as pairs of characters."""
        encoding = self._backend.encode(text, add_special_tokens=add_special_tokens)
        found: dict[str, Any] = {"input_ids": encoding.ids}
        if return_offsets_mapping:
            found["offset_mapping"] = encoding.offsets
        return found

    @property
    def backend(self) -> Backend:
        """The tokenizer itself, which neither cuts nor pads."""
        return self._backend

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Return the encodings of `texts`, which have all special tokens written in them."""
        found: list[Encoding] = self._backend.encode_batch(texts, add_special_tokens=False)
        return found

    def count(self, texts: Sequence[Rendered]) -> Iterator[Counted]:
        """Yield for each of `texts` its tokens, and which of them begin in its spans."""
        return self._counter.count(texts)

    def _template(self, *, tools: bool) -> str:
        template = self.chat_template
        if isinstance(template, dict):
            named = template.get("tool_use") if tools else None
            template = named or template.get("default")
        if not template:
            raise ValueError("the model has no chat template")
        return template


def _backend(path: Path, special: Iterable[str]) -> Backend:
    try:
        backend = Backend.from_file(str(path))
    # The library raises a plain Exception for whatever is wrong with the file.
    except Exception as error:  # noqa: BLE001
        why = "there is no such file" if not path.is_file() else str(error)
        raise TokenizerMissingError(f"'{path}' cannot be read: {why}.") from None
    backend.no_truncation()
    backend.no_padding()
    missing = [token for token in special if backend.token_to_id(token) is None]
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in missing])
    return backend


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise TokenizerMissingError(f"'{path}' cannot be read: {error}.") from None
    return found if isinstance(found, dict) else {}


def _named_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the special tokens by the names that templates know them by."""
    more = config.get("extra_special_tokens")
    found = {name: config.get(name) for name in _NAMED} | (more if isinstance(more, dict) else {})
    return {name: _written(token) for name, token in found.items() if token}


def _all_special(config: Mapping[str, Any], named: Mapping[str, str]) -> tuple[str, ...]:
    extra: list[Any] = next(
        (config[key] for key in _EXTRA if isinstance(config.get(key), list)), []
    )
    return tuple(dict.fromkeys([*named.values(), *map(_written, extra)]))


def _written(token: str | Mapping[str, Any]) -> str:
    return token if isinstance(token, str) else str(token["content"])


def _templates(folder: Path, config: Mapping[str, Any]) -> str | dict[str, str] | None:
    """Return the chat template; files of their own go before what the config holds."""
    found = {path.stem: path for path in sorted((folder / _MORE_TEMPLATES).glob("*.jinja"))}
    if (folder / _TEMPLATE).is_file():
        found["default"] = folder / _TEMPLATE
    texts = {name: path.read_text(encoding="utf-8") for name, path in found.items()}
    held = config.get("chat_template")
    if not texts and isinstance(held, list):
        texts = {item["name"]: item["template"] for item in held}
    elif not texts:
        return held
    return texts["default"] if texts.keys() == {"default"} else texts


def _scores(config: Mapping[str, Any]) -> bool:
    names = config.get("architectures")
    return isinstance(names, list) and any(str(n).endswith(_SCORING) for n in names)


def _context_length(config: Mapping[str, Any]) -> int | None:
    inner = config.get("text_config")
    sizes = inner if isinstance(inner, dict) else config
    return next((sizes[name] for name in _CONTEXTS if isinstance(sizes.get(name), int)), None)
