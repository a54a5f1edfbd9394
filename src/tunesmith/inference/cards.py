"""Has one of the cluster's graphics cards answer, while there is one to have.

That is a card which Ray counts and no job holds. It is borrowed with the first question, and given
back when the replica that borrowed it ends. Where none is free, and where vLLM cannot be had, what
is asked is answered on processors.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Protocol

import ray
from ray.exceptions import GetTimeoutError, RayError

from tunesmith.artifacts.opening import open_artifacts
from tunesmith.domain.answers import Fault, Piece, Question
from tunesmith.inference.asking import ElsewhereError
from tunesmith.models.environment import ENVIRONMENT

_log = logging.getLogger(__name__)

_BEGINNING = 20.0
"""Seconds that Ray has to begin a process on a card which was free a moment ago."""
_AGAIN = 60.0
"""Seconds after which a card is asked for again where none was free."""
_QUESTIONS = 256
"""Questions that a card is asked at once; vLLM itself lets those wait that have no room."""
_QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
"""Keeps vLLM from telling its makers of its use."""


class NoVllmError(Exception):
    """A card is there, and vLLM is not: it is not installed where the card is."""


class Borrowed(Protocol):
    """A card that answers."""

    def answers(self, question: Question) -> AsyncGenerator[Piece]:
        """Yield the answers to `question`.

        Raises `ElsewhereError`, before any piece, where the card does not take the model, and
        `RayError` where the card is gone.
        """


class Cards:
    """Borrows a card, and asks it."""

    def __init__(
        self, borrow: Callable[[], Borrowed | None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Ask nothing yet.

        `borrow` returns a card, or `None` where none is free, and raises `NoVllmError`. It takes
        its time, and is called aside. `clock` tells seconds.
        """
        self._borrow = borrow
        self._clock = clock
        self._card: Borrowed | None = None
        self._none_until = 0.0
        self._why = ""
        self._borrowing = asyncio.Lock()
        self._told: set[tuple[str, str]] = set()

    async def pieces(self, question: Question) -> AsyncGenerator[Piece]:
        """Yield the answers to `question`; what goes wrong is the last piece.

        Raises `ElsewhereError`, before any piece, where processors are to answer it.
        """
        try:
            card = await self._lent()
            async with aclosing(card.answers(question)) as found:
                async for piece in found:
                    yield piece
        except ElsewhereError as error:
            self._tell(question, str(error))
            raise
        except RayError:
            _log.exception("The card that answered is gone")
            self._card, self._none_until = None, 0.0
            message = "The process on the graphics card ended while it answered. Ask again."
            yield Piece(fault=Fault(kind="fault", message=message))

    async def _lent(self) -> Borrowed:
        # Who asks while a card is being borrowed waits for it.
        async with self._borrowing:
            if self._card is None and self._clock() >= self._none_until:
                try:
                    self._card = await asyncio.to_thread(self._borrow)
                    self._why = "no graphics card of the cluster is free"
                    self._none_until = self._clock() + _AGAIN
                except NoVllmError as error:
                    self._why, self._none_until = str(error), float("inf")
                if self._card is not None:
                    _log.info("Texts are continued by vLLM, on a graphics card")
            if self._card is None:
                raise ElsewhereError(self._why)
            return self._card

    def _tell(self, question: Question, why: str) -> None:
        """Log once that the model of `question` is answered on processors."""
        answerer = question.answerer
        name = answerer.adapter or (answerer.whole or answerer.base).name
        if (name, why) not in self._told:
            self._told.add((name, why))
            _log.info("%s is answered by transformers, on processors: %s", name, why)


class CardProcess:
    """What runs on the card's node, in a process of its own."""

    def __init__(self, location: str, *, vllm: Callable[[], Any] | None = None) -> None:
        """Answer with the artifacts at `location`; `vllm` stands in for the installed one."""
        self._location = location
        self._vllm = vllm
        self._memory: Any = None

    async def begun(self) -> bool:
        """Return once the process has the card."""
        return True

    async def start(self) -> None:
        """Get ready to answer, which takes seconds. Raises `ImportError` where there is no vLLM."""
        logging.basicConfig(level=logging.INFO)
        door = importlib.import_module("tunesmith.inference.vllm_engine")
        telling = importlib.import_module("tunesmith.inference.telling")
        card = importlib.import_module("tunesmith.inference.card")
        vllm = (self._vllm or door.library)()
        artifacts = open_artifacts(self._location)
        there = card.Card(artifacts, vllm=vllm, adapters=door.Adapters())
        self._memory = telling.on_card(there, artifacts)
        self._pieces = telling.pieces

    async def answers(self, question: Question) -> AsyncGenerator[Piece]:
        """Yield the answers to `question`. Raises `ElsewhereError`."""
        async with aclosing(self._pieces(question, self._memory)) as found:
            async for piece in found:
                yield piece


class RayCard:
    """A card of Ray's, and the process on it."""

    def __init__(self, process: Any) -> None:
        """Ask the actor `process`."""
        self._process = process

    async def answers(self, question: Question) -> AsyncGenerator[Piece]:
        """Yield the answers to `question`; see `Borrowed.answers`."""
        coming = self._process.answers.remote(question)
        over = False
        try:
            async for piece in coming:
                yield await piece
            over = True
        except ElsewhereError as error:
            over = True
            # Ray's own error is one of both kinds, with the whole traceback in its words.
            raise ElsewhereError(str(getattr(error, "cause", error))) from None
        finally:
            if not over:
                ray.cancel(coming)


def borrow(location: str, *, vllm: Callable[[], Any] | None = None) -> RayCard | None:
    """Return a card that answers with the artifacts at `location`, or `None` where none is free.

    It is given back when the process that calls this ends. Raises `NoVllmError`.
    """
    if ray.available_resources().get("GPU", 0) < 1:
        return None
    kind = ray.remote(
        num_cpus=0,
        num_gpus=1,
        max_concurrency=_QUESTIONS,
        runtime_env={"env_vars": ENVIRONMENT | _QUIET},
    )(CardProcess)
    process = kind.remote(location, vllm=vllm)
    try:
        ray.get(process.begun.remote(), timeout=_BEGINNING)
    except GetTimeoutError:
        # Something else was faster.
        ray.kill(process)
        return None
    try:
        ray.get(process.start.remote())
    except ImportError as error:
        ray.kill(process)
        why = getattr(error, "cause", error)
        raise NoVllmError(f"vLLM is not installed where the graphics card is ({why})") from error
    return RayCard(process)
