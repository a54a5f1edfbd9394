"""The models that are in memory: those that answered last, with the adapters that they had last.

A model is loaded when it is first asked. Where there are too many, the one that nobody has asked
for longest goes, unless it is answering; and so do adapters.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from peft import PeftModel
from transformers import GenerationConfig

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.dataset.prompting import end_tokens
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.domain.answers import Answerer
from tunesmith.domain.errors import BusyError, ModelUnavailableError
from tunesmith.inference.asking import Continuing
from tunesmith.inference.engine import Engine
from tunesmith.inference.factors import Adapter, NotPlainError
from tunesmith.inference.source import Weights
from tunesmith.models import bringing
from tunesmith.models.bringing import BaseModel

_LONGEST = 4096
"""Tokens of the longest text, where the model's context is longer or says nothing."""


_RETRY_AFTER = 5
"""Seconds after which who found no room may ask again."""


@dataclass(frozen=True)
class Sizes:
    """How much is kept in memory."""

    models: int = 2
    """Models, each with its adapters."""
    adapters: int = 16
    """Adapters of a model."""
    texts: int = 8
    """Texts that a model continues at once."""


@dataclass(frozen=True)
class Ready:
    """A model that can be asked."""

    engine: Continuing
    """What continues texts with it."""
    adapter: int | None
    """Number by which the engine knows the adapter; `None` for none."""
    tokenizer: FolderTokenizer
    """The tokenizer that it was trained with."""
    ends: frozenset[int]
    """The tokens that end an answer."""


class Asking(Protocol):
    """Has models in memory that can be asked."""

    def asking(self, answerer: Answerer) -> AbstractContextManager[Ready]:
        """Have `answerer` in memory while the block lasts, loaded where it was not.

        Raises `ModelUnavailableError`, `BusyError` where there is no room, and on a card
        `ElsewhereError` where it does not take the model.
        """

    def close(self) -> None:
        """Take all models out of memory."""


@dataclass(eq=False)
class _Held:
    """A model in memory."""

    engine: Engine
    tokenizer: FolderTokenizer
    ends: frozenset[int]
    users: int = 0
    places: OrderedDict[str, int] = field(default_factory=OrderedDict)
    """The place of each adapter, that which was asked for last behind all others."""
    using: dict[str, int] = field(default_factory=dict)
    """How many are using each adapter."""


class Shelf:
    """Loads models and takes them out of memory."""

    def __init__(self, artifacts: Artifacts, sizes: Sizes = Sizes()) -> None:
        """Load what `artifacts` holds, and the base models beside it."""
        self._artifacts = artifacts
        self._sizes = sizes
        self._held: OrderedDict[Answerer, _Held] = OrderedDict()
        self._merged: set[Answerer] = set()
        self._loading = 0
        self._turn = threading.Lock()
        # Who asks for the same model waits for it; others are asked meanwhile.
        self._turns: defaultdict[Answerer, threading.Lock] = defaultdict(threading.Lock)

    @contextmanager
    def asking(self, answerer: Answerer) -> Iterator[Ready]:
        """Have `answerer` in memory while the block lasts, loaded where it was not.

        Raises `ModelUnavailableError`, and `BusyError` where all that is in memory is answering.
        """
        with self._turn:
            alone = self._turns[answerer.alone]
        with alone:
            held, place = self._taken(answerer)
        try:
            yield Ready(held.engine, place, held.tokenizer, held.ends)
        finally:
            with self._turn:
                held.users -= 1
                if place is not None:
                    held.using[str(answerer.adapter)] -= 1

    def close(self) -> None:
        """Take all models out of memory."""
        with self._turn:
            for held in self._held.values():
                held.engine.close()
            self._held.clear()

    def _taken(self, answerer: Answerer) -> tuple[_Held, int | None]:
        """Return what is asked, one user more, and where its adapter is."""
        if answerer.adapter is None or answerer in self._merged:
            return self._model(answerer), None
        held = self._model(answerer.alone)
        try:
            place = self._adapter(held, answerer.adapter)
        except NotPlainError:
            self._left(held)
            self._merged.add(answerer)
            return self._model(answerer), None
        except BaseException:
            self._left(held)
            raise
        return held, place

    def _left(self, held: _Held) -> None:
        with self._turn:
            held.users -= 1

    def _model(self, answerer: Answerer) -> _Held:
        with self._turn:
            held = self._held.get(answerer)
            if held is not None:
                self._held.move_to_end(answerer)
                held.users += 1
                return held
            self._make_room()
            self._loading += 1
        try:
            held = self._loaded(answerer)
            with self._turn:
                self._held[answerer] = held
                held.users += 1
        finally:
            with self._turn:
                self._loading -= 1
        return held

    def _make_room(self) -> None:
        while len(self._held) + self._loading >= self._sizes.models:
            idle = next((name for name, held in self._held.items() if not held.users), None)
            if idle is None:
                raise busy("models")
            self._held.pop(idle).engine.close()

    def _loaded(self, answerer: Answerer) -> _Held:
        base = beneath(answerer, self._artifacts)
        tokenizer = FolderTokenizer(base.folder)
        weights = Weights(base.folder, trusted=answerer.base.trust_remote_code)
        model = weights.rounded() if answerer.rounded else weights.load()
        if answerer.adapter is not None:
            folder = adapter_folder(answerer.adapter, self._artifacts)
            model = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
        ends = end_tokens(tokenizer) | stated_ends(base.folder)
        context = tokenizer.context_length or _LONGEST
        engine = Engine(model, slots=self._sizes.texts, longest=min(context, _LONGEST))
        return _Held(engine, tokenizer, ends)

    def _adapter(self, held: _Held, key: str) -> int:
        """Return the place of the adapter under `key`, read where it was not there.

        Raises `NotPlainError` where it is more than factors.
        """
        if key not in held.places:
            read = Adapter.read(adapter_folder(key, self._artifacts), dtype=torch.float32)
            with self._turn:
                free = self._free_place(held)
            held.engine.between(lambda: held.engine.factors.put(free, read))
            held.places[key] = free
        with self._turn:
            held.places.move_to_end(key)
            held.using[key] = held.using.get(key, 0) + 1
            return held.places[key]

    def _free_place(self, held: _Held) -> int:
        if len(held.places) < self._sizes.adapters:
            return next(n for n in range(self._sizes.adapters) if n not in held.places.values())
        idle = next((key for key in held.places if not held.using.get(key)), None)
        if idle is None:
            raise busy("adapters")
        held.using.pop(idle, None)
        return held.places.pop(idle)


def beneath(answerer: Answerer, artifacts: Artifacts) -> BaseModel:
    """Return what is beneath the adapter of `answerer`. Raises `ModelUnavailableError`."""
    if answerer.whole is not None:
        return bringing.tuned(answerer.whole, artifacts)
    return bringing.bring(answerer.base, artifacts, announce=lambda _: None)


def adapter_folder(key: str, artifacts: Artifacts) -> Path:
    """Return where the adapter under `key` is. Raises `ModelUnavailableError`."""
    if not artifacts.exists(f"{key}/adapter_config.json"):
        raise ModelUnavailableError("The model's adapter is no longer there: it was deleted.")
    return artifacts.fetch_folder(key)


def busy(what: str) -> BusyError:
    """Return the error that says that `what` are all in use."""
    return BusyError(
        f"All {what} in memory are answering, and there is no room for one more. Ask again later.",
        code=f"too_many_{what}",
        retry_after=_RETRY_AFTER,
    )


def stated_ends(folder: Path) -> frozenset[int]:
    """Return the tokens that the model itself says end a text."""
    if not (folder / "generation_config.json").is_file():
        return frozenset()
    ends = GenerationConfig.from_pretrained(folder).eos_token_id
    return frozenset([ends] if isinstance(ends, int) else ends or ())
