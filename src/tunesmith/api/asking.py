"""Ask models: find the one of a name, put a question to it, and tell its answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from tunesmith.api.services import Services
from tunesmith.api.streams import MEDIA_TYPE
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.answers import Answerer, Call, Fault, Finish, Piece, Question, Spelling
from tunesmith.domain.errors import (
    ArtifactMissingError,
    BusyError,
    ClusterUnavailableError,
    InvalidRequestError,
    NotFoundError,
    SystemFaultError,
    TunesmithError,
)
from tunesmith.domain.models import WholeModel
from tunesmith.domain.spec import RANKED, Method
from tunesmith.protocol.errors import ErrorBody, ErrorDetail
from tunesmith.protocol.reading import shortened
from tunesmith.protocol.wire import Wire

_Answer = TypeVar("_Answer")

_DONE = "data: [DONE]\n\n"
_RETRY_AFTER = 5
"""Seconds after which a cluster that does not answer may."""

_EVENT = {
    "type": "object",
    "properties": {"data": {"type": "string", "description": "A chunk as JSON, or `[DONE]`."}},
}

ASKED_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {MEDIA_TYPE: {"schema": _EVENT}}}
}
"""Describes the answers of a route that may stream, for its `responses`."""


@dataclass
class Said:
    """One answer, as far as it was told."""

    text: str = ""
    """What it says."""
    spelled: list[Spelling] = field(default_factory=list)
    """Its tokens, where their likelihood was asked for."""
    calls: tuple[Call, ...] = ()
    """The tools that it calls."""
    finish: Finish = Finish.STOP
    """Why it ended."""
    tokens: int = 0
    """Its tokens."""


async def find_answerer(services: Services, name: str, *, ranked: Method | None = None) -> Answerer:
    """Return the model `name`, which makes texts, or what a `ranked` method learns.

    Raises `NotFoundError` and `InvalidRequestError` with the parameter `model`.
    """
    return await run_in_threadpool(_find, services, name, ranked=ranked)


def _find(services: Services, name: str, *, ranked: Method | None) -> Answerer:
    if name in services.catalogue:
        return Answerer(base=services.catalogue[name])
    try:
        found = services.store.tuned_model(name)
        run = RunDirectory(services.artifacts, found.job_id)
        spec = run.read_spec()
    except (NotFoundError, ArtifactMissingError):
        known = ", ".join(f"'{model}'" for model in sorted(services.catalogue)) or "none"
        raise NotFoundError(
            f"The model '{shortened(name)}' does not exist. '/v1/models' lists tuned models, a "
            f"job's list its checkpoints; the base models are: {known}.",
            param="model",
            code="model_not_found",
        ) from None
    if (spec.method if spec.method in RANKED else None) != ranked:
        raise InvalidRequestError(
            f"'{shortened(name)}' was tuned by '{spec.method}'; ask it at {_where(spec.method)}.",
            param="model",
            code="wrong_kind_of_model",
        )
    base = run.pinned_base_model() or spec.base_model
    if spec.lora is None:
        return Answerer(base=base, whole=WholeModel(name=found.name, key=found.key))
    return Answerer(base=base, whole=spec.beneath, adapter=found.key, rounded=spec.lora.quantized)


def _where(method: Method) -> str:
    if method is Method.EMBEDDING:
        return "'/v1/embeddings'"
    return "'/v1/rerank'" if method is Method.RERANK else "'/v1/chat/completions'"


async def told(services: Services, question: Question) -> AsyncGenerator[Piece]:
    """Yield the pieces of the answers to `question`. A fault is raised as an error of ours."""
    try:
        async with aclosing(_to_the_end(services, question)) as pieces:
            async for piece in pieces:
                if piece.fault is not None:
                    raise _error(piece.fault)
                yield piece
    except ClusterUnavailableError as error:
        raise BusyError(
            f"No model can be asked now: {error.message} Try again later.",
            code="cluster_unavailable",
            retry_after=_RETRY_AFTER,
        ) from error


async def _to_the_end(services: Services, question: Question) -> AsyncGenerator[Piece]:
    """Yield all pieces. Raises `ClusterUnavailableError` where an answer has no end."""
    left, silent = set(range(question.count)), True
    async with aclosing(services.answering.ask(question)) as pieces:
        async for piece in pieces:
            silent = False
            if piece.finish is not None:
                left.discard(piece.answer)
            yield piece
    if left or silent:
        raise ClusterUnavailableError("The model went away while it answered.")


def _error(fault: Fault) -> TunesmithError:
    match fault.kind:
        case "asked":
            return InvalidRequestError(fault.message, param=fault.param, code=fault.code)
        case "model":
            return NotFoundError(fault.message, param="model", code="model_not_found")
        case "busy":
            return BusyError(
                fault.message,
                code=fault.code or "busy",
                retry_after=fault.retry_after or _RETRY_AFTER,
            )
        case "fault":
            return SystemFaultError(fault.message)


async def whole(services: Services, question: Question) -> tuple[int, list[Said]]:
    """Return the tokens of what was asked, and all answers."""
    said: dict[int, Said] = {}
    asked = 0
    async with aclosing(told(services, question)) as pieces:
        async for piece in pieces:
            if piece.prompt_tokens is not None:
                asked = piece.prompt_tokens
                continue
            answer = said.setdefault(piece.answer, Said())
            answer.text += piece.text
            answer.spelled += piece.spelled
            if piece.finish is not None:
                answer.finish, answer.tokens = piece.finish, piece.tokens
                answer.calls = piece.calls
    return asked, [said[number] for number in sorted(said)]


async def one_piece(services: Services, question: Question) -> Piece:
    """Return the answer to a `question` that has one piece alone."""
    async with aclosing(told(services, question)) as pieces:
        return await anext(pieces)


async def unless_gone(request: Request, work: Coroutine[Any, Any, _Answer]) -> _Answer | Response:
    """Return what `work` returns; where the client goes before, it is cancelled."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        # Nobody sees it; nginx calls it "client closed request".
        return Response(status_code=499)
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def streamed(
    pieces: AsyncGenerator[Piece],
    *,
    begin: Callable[[int], list[Wire]],
    tell: Callable[[Piece], list[Wire]],
    end: Callable[[int, int], list[Wire]],
) -> Response:
    """Return an answer of server-sent events, once the first piece is there.

    `begin` gets the number of an answer of which something is told for the first time, `tell` each
    piece, and `end` the tokens of what was asked and of all answers.
    """
    # What goes wrong before anything is told has a status of its own.
    first = await anext(pieces)

    async def events() -> AsyncIterator[str]:
        said, begun = 0, set[int]()
        async with aclosing(pieces):
            try:
                async for piece in pieces:
                    if piece.answer not in begun:
                        begun.add(piece.answer)
                        for event in begin(piece.answer):
                            yield _event(event)
                    said += piece.tokens
                    for event in tell(piece):
                        yield _event(event)
            except TunesmithError as error:
                yield _event(_broken(error))
                return
        for event in end(first.prompt_tokens or 0, said):
            yield _event(event)
        yield _DONE

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events(), media_type=MEDIA_TYPE, headers=headers)


def _event(shown: Wire) -> str:
    return f"data: {shown.model_dump_json(by_alias=True)}\n\n"


def _broken(error: TunesmithError) -> ErrorBody:
    """Return what ends a stream that cannot go on; OpenAI's clients raise it."""
    code = error.code if isinstance(error, BusyError) else None
    detail = ErrorDetail(message=error.message, type="server_error", param=None, code=code)
    return ErrorBody(error=detail)
