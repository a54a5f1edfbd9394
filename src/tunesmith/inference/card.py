"""The model that a graphics card has, with the adapters that were asked for last.

One model is there at a time, since vLLM fills the card. It goes when another one is asked for,
unless it is answering. What the card does not take is answered on processors.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import torch

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.dataset.prompting import end_tokens
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.domain.answers import Answerer
from tunesmith.inference.asking import ElsewhereError
from tunesmith.inference.factors import Adapter, NotPlainError
from tunesmith.inference.shelf import Ready, adapter_folder, beneath, busy, stated_ends
from tunesmith.inference.vllm_engine import Adapters, Library, VllmEngine

_log = logging.getLogger(__name__)

_RANKS = (64, 128, 256, 320, 512)
"""The largest ranks for which vLLM can have room. More room than is needed costs memory, less means
that the model is brought to the card anew for an adapter of a larger rank."""


@dataclass(eq=False)
class _Held:
    """The model on the card."""

    alone: Answerer
    engine: VllmEngine
    tokenizer: FolderTokenizer
    ends: frozenset[int]
    rank: int
    """The largest rank of an adapter."""
    users: int = 0
    adapters: OrderedDict[str, int] = field(default_factory=OrderedDict)
    """The number of each adapter, that which was asked for last behind all others."""
    using: dict[str, int] = field(default_factory=dict)
    """How many are using each adapter."""
    numbers: count[int] = field(default_factory=lambda: count(1))


class Card:
    """Brings models to the card and takes them from it."""

    def __init__(self, artifacts: Artifacts, *, vllm: Library, adapters: Adapters) -> None:
        """Load what `artifacts` holds, and the base models beside it, with `vllm`.

        `adapters` says for how many there is room; for their rank there is more where it is needed.
        """
        self._artifacts = artifacts
        self._vllm = vllm
        self._adapters = adapters
        self._held: _Held | None = None
        self._refused: dict[Answerer, str] = {}
        self._turn = threading.Lock()

    @contextmanager
    def asking(self, answerer: Answerer) -> Iterator[Ready]:
        """Have `answerer` on the card while the block lasts; see `Asking.asking`."""
        with self._turn:
            held, number = self._taken(answerer)
        try:
            yield Ready(held.engine, number, held.tokenizer, held.ends)
        finally:
            with self._turn:
                held.users -= 1
                if answerer.adapter is not None:
                    held.using[answerer.adapter] -= 1

    def close(self) -> None:
        """Take the model from the card."""
        with self._turn:
            self._leave()

    def _taken(self, answerer: Answerer) -> tuple[_Held, int | None]:
        """Return what is asked, one user more, and the number of its adapter."""
        why = self._refused.get(answerer) or self._refused.get(answerer.alone)
        if why is not None:
            raise ElsewhereError(why)
        if answerer.rounded:
            raise self._refusal(answerer, "its adapter learnt on a base model in 4 bits")
        key, folder = answerer.adapter, None
        if key is not None:
            folder = adapter_folder(key, self._artifacts)
        held = self._model(answerer, rank=0 if folder is None else self._rank(answerer, folder))
        number = None
        if key is not None and folder is not None:
            number = self._adapter(held, answerer, key=key, folder=folder)
            held.using[key] = held.using.get(key, 0) + 1
        held.users += 1
        return held, number

    def _rank(self, answerer: Answerer, folder: Path) -> int:
        """Return the rank for which the adapter in `folder` needs room."""
        held = self._held
        if held is not None and held.alone == answerer.alone and answerer.adapter in held.adapters:
            return 0
        try:
            factors = Adapter.read(folder, dtype=torch.float32).factors.values()
        except NotPlainError as error:
            raise self._refusal(answerer, f"its adapter is no LoRA alone: {error}") from error
        largest = max((len(first) for first, _ in factors), default=0)
        if largest > _RANKS[-1]:
            raise self._refusal(answerer, f"its adapter's rank is beyond {_RANKS[-1]}: {largest}")
        return largest

    def _model(self, answerer: Answerer, *, rank: int) -> _Held:
        """Return the model of `answerer`, brought to the card where it is not there."""
        alone, held = answerer.alone, self._held
        if held is not None:
            same = held.alone == alone
            if same and held.rank >= rank and not held.engine.broken:
                return held
            if held.users and same:
                raise busy("models")
            if held.users:
                raise ElsewhereError("the card answers with another model")
            # Who asks for one adapter of a large rank mostly comes again.
            rank = max(rank, held.rank) if same else rank
            self._leave()
        room = next(each for each in _RANKS if each >= max(rank, self._adapters.rank))
        base = beneath(alone, self._artifacts)
        tokenizer = FolderTokenizer(base.folder)
        try:
            engine = VllmEngine(
                base.folder, vllm=self._vllm, adapters=replace(self._adapters, rank=room)
            )
        except Exception as error:
            _log.exception("vLLM does not start with %s", alone.base.name)
            raise self._refusal(alone, f"vLLM does not start with it: {error}") from error
        _log.info("%s is on the card: vLLM answers, up to %s tokens", _name(alone), engine.longest)
        ends = end_tokens(tokenizer) | stated_ends(base.folder)
        self._held = _Held(alone, engine, tokenizer, ends, rank=room)
        return self._held

    def _adapter(self, held: _Held, answerer: Answerer, *, key: str, folder: Path) -> int:
        """Return the number of the adapter under `key`, loaded where it was not there."""
        if key not in held.adapters:
            while len(held.adapters) >= self._adapters.most:
                idle = next((each for each in held.adapters if not held.using.get(each)), None)
                if idle is None:
                    raise busy("adapters")
                held.using.pop(idle, None)
                held.engine.take(held.adapters.pop(idle))
            number = next(held.numbers)
            try:
                held.engine.put(number, folder)
            except Exception as error:
                raise self._refusal(answerer, f"vLLM does not take its adapter: {error}") from error
            held.adapters[key] = number
        held.adapters.move_to_end(key)
        return held.adapters[key]

    def _refusal(self, answerer: Answerer, why: str) -> ElsewhereError:
        """Remember that `answerer` is nothing for the card, and return the error that says so."""
        self._refused[answerer] = why
        return ElsewhereError(why)

    def _leave(self) -> None:
        if self._held is not None:
            self._held.engine.close()
            self._held = None


def _name(answerer: Answerer) -> str:
    return answerer.base.name if answerer.whole is None else answerer.whole.name
