"""Puts a question to a model, and tells its answers piece by piece as they come."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

from anyio import CapacityLimiter, to_thread
from starlette.concurrency import run_in_threadpool

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.dataset.calling import CallMarks, CallReader
from tunesmith.dataset.examples import Message, ToolCall
from tunesmith.dataset.prompting import chat_prompt, text_prompt
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.domain.answers import (
    Call,
    Chat,
    Chosen,
    Fault,
    Finish,
    Passages,
    Piece,
    Prompts,
    Question,
    Sampling,
    Spelled,
    Spelling,
    Texts,
    Turn,
)
from tunesmith.domain.errors import (
    BusyError,
    InvalidRequestError,
    ModelUnavailableError,
    TunesmithError,
)
from tunesmith.domain.ids import new_answer_id
from tunesmith.inference.asking import ElsewhereError
from tunesmith.inference.engine import Listener, Text
from tunesmith.inference.ranked import Ranked
from tunesmith.inference.shelf import Asking, Ready, Shelf, Sizes
from tunesmith.inference.texts import Wording

_log = logging.getLogger(__name__)

_RANKING = CapacityLimiter(1)
"""Keeps those who wait for a turn from taking the threads that others need."""


@dataclass(frozen=True)
class Memory:
    """The models that are in memory."""

    shelf: Asking
    """Those that make texts."""
    ranked: Ranked
    """Those that make vectors, or score passages."""


def memory(artifacts: Artifacts, *, models: int) -> Memory:
    """Return memory for up to `models` of each kind, of what `artifacts` holds."""
    return Memory(Shelf(artifacts, Sizes(models=models)), Ranked(artifacts, most=models))


def on_card(card: Asking, artifacts: Artifacts) -> Memory:
    """Return the memory of a process on a `card`, which is asked for texts alone."""
    return Memory(card, Ranked(artifacts, most=1))


async def pieces(question: Question, memory: Memory) -> AsyncGenerator[Piece]:
    """Yield the answers to `question`; what goes wrong is the last piece.

    Where nobody listens any more, the model stops. Raises `ElsewhereError`, before any piece, where
    the models of `memory` are on a card that does not take it.
    """
    try:
        async for piece in _answers(question, memory):
            yield piece
    except ElsewhereError:
        raise
    except TunesmithError as error:
        yield Piece(fault=_fault(error))
    except Exception:  # noqa: BLE001  the question's edge: whoever asks is told in any case
        _log.exception("A question could not be answered")
        message = "The model could not answer; the log of the model's process says why."
        yield Piece(fault=Fault(kind="fault", message=message))


async def _answers(question: Question, memory: Memory) -> AsyncGenerator[Piece]:
    shelf, ranked, answerer = memory.shelf, memory.ranked, question.answerer
    match question.asked:
        case Chat() | Prompts():
            asking = shelf.asking(answerer)
            async with AsyncExitStack() as stack:
                # It may take a while to load, and a moment to leave.
                ready = await run_in_threadpool(asking.__enter__)
                stack.push_async_callback(run_in_threadpool, asking.__exit__, None, None, None)
                prompts = await run_in_threadpool(_prompts, question, ready.tokenizer)
                async for piece in _continued(question, prompts, ready=ready):
                    yield piece
        case Texts() as texts:
            yield await to_thread.run_sync(ranked.vectors, answerer, texts, limiter=_RANKING)
        case Passages() as passages:
            yield await to_thread.run_sync(ranked.scores, answerer, passages, limiter=_RANKING)


def _prompts(question: Question, tokenizer: FolderTokenizer) -> list[list[int]]:
    asked = question.asked
    if isinstance(asked, Chat):
        turns = [_message(turn) for turn in asked.turns]
        return [chat_prompt(turns, tokenizer, tools=asked.tools)]
    if isinstance(asked, Prompts):
        return [
            text_prompt(prompt, tokenizer) if isinstance(prompt, str) else list(prompt)
            for prompt in asked.prompts
        ]
    return []


async def _continued(
    question: Question, prompts: Sequence[Sequence[int]], *, ready: Ready
) -> AsyncGenerator[Piece]:
    """Yield the answers to all `prompts`, as they come."""
    told: asyncio.Queue[Piece | Exception] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def tell(piece: Piece | Exception) -> None:
        # The loop may be gone by the time that the engine ends.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(told.put_nowait, piece)

    _check(question, prompts, ready=ready)
    yield Piece(prompt_tokens=sum(map(len, prompts)))
    tools = question.asked.tools if isinstance(question.asked, Chat) else ()
    names = [str(tool["function"]["name"]) for tool in tools]
    marks = CallMarks.of(ready.tokenizer) if names else None
    texts = [
        _text(
            question.sampling,
            prompt,
            number=number,
            ready=ready,
            tell=tell,
            calls=CallReader(marks, names) if marks and names else None,
        )
        for number, prompt in enumerate(each for each in prompts for _ in range(question.answers))
    ]
    try:
        for text in texts:
            ready.engine.say(text)
        going = len(texts)
        while going:
            piece = await told.get()
            if isinstance(piece, Exception):
                raise piece
            going -= piece.finish is not None
            yield piece
    finally:
        for text in texts:
            ready.engine.cancel(text)


def _check(question: Question, prompts: Sequence[Sequence[int]], *, ready: Ready) -> None:
    """Raise `InvalidRequestError` where a prompt is empty or too long for the model."""
    param = "messages" if isinstance(question.asked, Chat) else "prompt"
    for prompt in prompts:
        if not prompt:
            raise InvalidRequestError("The prompt is empty; ask something.", param=param)
        if len(prompt) >= ready.engine.longest:
            raise InvalidRequestError(
                f"The prompt has {len(prompt)} tokens, and with the answer the model takes "
                f"{ready.engine.longest}. Shorten it.",
                param=param,
                code="context_length_exceeded",
            )
        vocabulary = ready.engine.vocabulary
        if not 0 <= min(prompt) <= max(prompt) < vocabulary:
            raise InvalidRequestError(
                f"'{param}' has a token that the model does not have; its ids go from 0 to "
                f"{vocabulary - 1}.",
                param=param,
            )
    if any(not 0 <= token < ready.engine.vocabulary for token in question.sampling.logit_bias):
        raise InvalidRequestError(
            f"'logit_bias' names a token that the model does not have; its ids go from 0 to "
            f"{ready.engine.vocabulary - 1}.",
            param="logit_bias",
        )


def _text(
    sampling: Sampling,
    prompt: Sequence[int],
    *,
    number: int,
    ready: Ready,
    tell: Callable[[Piece | Exception], None],
    calls: CallReader | None,
) -> Text:
    """Return the text of the answer `number`, whose pieces are told to `tell`."""
    if sampling.seed is not None:
        # Else all answers to one question would be the same.
        sampling = sampling.model_copy(update={"seed": (sampling.seed + number) % 2**63})
    telling = _Telling(number, ready.tokenizer, sampling, tell, calls=calls)
    return Text(
        tuple(prompt),
        sampling=sampling,
        ends=ready.ends,
        listener=Listener(telling.said, telling.ended, tell),
        adapter=ready.adapter,
    )


class _Telling:
    """Tells one answer in words; called in the engine's thread."""

    def __init__(  # noqa: PLR0917  all of them are what it is made of
        self,
        number: int,
        tokenizer: FolderTokenizer,
        sampling: Sampling,
        tell: Callable[[Piece | Exception], None],
        *,
        calls: CallReader | None,
    ) -> None:
        self._number = number
        self._tokenizer = tokenizer
        self._spells = sampling.logprobs is not None
        self._wording = Wording(tokenizer.backend, sampling.stop)
        self._calls = calls
        self._tell = tell
        self._tokens = 0

    def said(self, chosen: Chosen) -> bool:
        self._tokens += 1
        text = self._sure(self._wording.add(chosen.token))
        spelled = (self._spelling(chosen),) if self._spells else ()
        if text or spelled:
            self._tell(Piece(answer=self._number, text=text, spelled=spelled))
        return not self._wording.stopped

    def ended(self, finish: Finish) -> None:
        rest, found = self._sure(self._wording.rest()), list[tuple[str, str]]()
        if self._calls is not None:
            left, found = self._calls.end()
            rest += left
        calls = tuple(
            Call(id=new_answer_id("call"), name=name, arguments=given) for name, given in found
        )
        self._tell(
            Piece(
                answer=self._number,
                text=rest,
                calls=calls,
                finish=Finish.TOOL_CALLS if calls else finish,
                tokens=self._tokens,
            )
        )

    def _sure(self, text: str) -> str:
        """Return what of the answer is surely no call, with `text` behind it."""
        return text if self._calls is None else self._calls.add(text)

    def _spelling(self, chosen: Chosen) -> Spelling:
        return Spelling(
            text=self._spelled(chosen.token),
            logprob=chosen.logprob or 0.0,
            likeliest=tuple(
                Spelled(text=self._spelled(each.token), logprob=each.logprob)
                for each in chosen.likeliest
            ),
        )

    def _spelled(self, token: int) -> str:
        return str(self._tokenizer.backend.decode([token], skip_special_tokens=False))


def _message(turn: Turn) -> Message:
    calls = tuple(ToolCall(call.id, call.name, _arguments(call.arguments)) for call in turn.calls)
    return Message(
        turn.role,
        turn.content,
        learn=False,
        tool_calls=calls,
        tool_call_id=turn.call_id,
        name=turn.name,
    )


def _arguments(written: str) -> dict[str, object] | str:
    """Return what a call is given as training reads it: an object, or else the text as it is."""
    try:
        found = json.loads(written)
    except ValueError:
        return written
    return found if isinstance(found, dict) else written


def _fault(error: TunesmithError) -> Fault:
    match error:
        case InvalidRequestError():
            return Fault(kind="asked", message=error.message, param=error.param, code=error.code)
        case ModelUnavailableError():
            return Fault(kind="model", message=error.message)
        case BusyError():
            return Fault(
                kind="busy",
                message=error.message,
                code=error.code,
                retry_after=error.retry_after,
            )
        case _:
            return Fault(kind="fault", message=error.message)
