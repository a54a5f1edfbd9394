"""Asks a GGUF file through llama.cpp, in a process of its own: a bad file may take that down.

The binding is `xllamacpp`, which is optional.
"""

from __future__ import annotations

import importlib
import json
import math
import multiprocessing
import secrets
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tunesmith.inference.parity import Answer, Place, follow_by_asking

_BINDING = "xllamacpp"
_LIKELIEST = 20
"""Tokens that are told of at a place."""

_PATIENCE = 120
"""Seconds for one text to be cut into tokens."""


class LlamaCppError(Exception):
    """llama.cpp does not load the file, or died of it."""


def installed() -> bool:
    """Tell whether the binding is there."""
    return find_spec(_BINDING) is not None


class LlamaCpp:
    """A GGUF file that llama.cpp has loaded; a `Side`."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        """Ask what `pool`'s process has loaded; see `llama_cpp`."""
        self._pool = pool
        self.name = f"llama.cpp ({_BINDING} {version(_BINDING)})"
        """The program, for people."""

    def follow(self, answer: Answer) -> list[Place]:
        """Return what it says at each place; see `Side`. Raises `LlamaCppError`."""
        return follow_by_asking(self, answer)

    def go_on(self, prompt: Sequence[int], count: int) -> list[dict[int, float]]:
        """Return the likeliest tokens of `count` places; see `Asked`."""
        found: list[dict[int, float]] = self._call(_go_on, list(prompt), count)
        return found

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of `text`, in which special tokens are written. May raise the same."""
        found: list[int] = self._call(_tokens, text)
        return found

    def _call(self, task: Any, *given: Any) -> Any:
        try:
            return self._pool.submit(task, *given).result()
        except BrokenProcessPool as error:
            raise LlamaCppError("llama.cpp does not load the file, or died of it") from error


@contextmanager
def llama_cpp(path: Path, *, threads: int, context: int) -> Iterator[LlamaCpp]:
    """Have the GGUF file at `path` loaded, for texts of up to `context` tokens."""
    spawned = multiprocessing.get_context("spawn")
    given = (str(path), (threads, context))
    with ProcessPoolExecutor(1, spawned, initializer=_load, initargs=given) as pool:
        yield LlamaCpp(pool)


_loaded: dict[str, Any] = {}
"""In the process of llama.cpp, its server and the key to that."""


def _load(path: str, numbers: tuple[int, int]) -> None:
    """Load the file at `path` as exactly as llama.cpp can, for as many threads and tokens."""
    threads, context = numbers
    binding: Any = importlib.import_module(_BINDING)
    params = binding.CommonParams()
    params.model.path = path
    params.n_ctx = context
    params.n_parallel = 1
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    # By default keys and values are rounded to 16 bits, which says nothing of the file.
    params.cache_type_k = binding.ggml_type.GGML_TYPE_F32
    params.cache_type_v = binding.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = binding.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.warmup = False
    # It listens on this machine, where others may live.
    _loaded["key"] = secrets.token_hex(16)
    params.api_keys = [_loaded["key"]]
    params.verbosity = 1
    _loaded["server"] = binding.Server(params)


def _go_on(prompt: list[int], count: int) -> list[dict[int, float]]:
    """Return the likeliest tokens of each place of a greedy answer."""
    told = _posted(
        "/completion",
        {
            "prompt": prompt,
            "n_predict": count,
            "temperature": 0,
            "n_probs": _LIKELIEST,
            "cache_prompt": False,
            "return_tokens": True,
        },
    )
    return _aligned(told["tokens"], told.get("completion_probabilities", ()))


def _aligned(tokens: list[int], told: Sequence[dict[str, Any]]) -> list[dict[int, float]]:
    """Return the likeliest of each place; where it is not sure which those are, its token alone.

    Where a token ends within a character, nothing is told until that is whole; and of the token
    that ends an answer, nothing ever is.
    """
    named = [place["id"] for place in told]
    first = _placed(tokens, named)
    last = [len(tokens) - 1 - at for at in _placed(tokens[::-1], named[::-1])][::-1]
    found: list[dict[int, float]] = [{token: math.nan} for token in tokens]
    for at, other, place in zip(first, last, told, strict=False):
        if at == other:
            found[at] = {each["id"]: each["logprob"] for each in place["top_logprobs"]}
    return found


def _placed(tokens: list[int], named: list[int]) -> list[int]:
    """Return where among `tokens` those that are `named` can stand at the earliest."""
    left = iter(enumerate(tokens))
    return [next(at for at, token in left if token == name) for name in named]


def _tokens(text: str) -> list[int]:
    asked = {"content": text, "add_special": False, "parse_special": True}
    found: list[int] = _posted("/tokenize", asked)["tokens"]
    return found


def _posted(path: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(  # noqa: S310  the address is the server's own
        _loaded["server"].listening_address + path,
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {_loaded['key']}"},
    )
    with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:  # noqa: S310
        return json.load(answer)
