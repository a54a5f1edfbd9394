"""`/v1/chat/completions`: base models, tuned models and checkpoints say the next turn."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from tunesmith.api.answers import WireRoute
from tunesmith.api.asking import (
    ASKED_ANSWERS,
    Said,
    find_answerer,
    streamed,
    told,
    unless_gone,
    whole,
)
from tunesmith.api.body import JsonBody
from tunesmith.api.openapi import json_body
from tunesmith.api.services import Serviced
from tunesmith.domain.answers import Piece, Question, Spelling
from tunesmith.domain.ids import new_answer_id
from tunesmith.protocol.chat import (
    CallDelta,
    ChatAnswer,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatLogprobs,
    CreateChatCompletion,
)
from tunesmith.protocol.reading import read_shape
from tunesmith.protocol.sampling import Usage
from tunesmith.protocol.wire import Wire

router = APIRouter(route_class=WireRoute, prefix="/v1/chat/completions", tags=["answers"])
"""The routes of this resource."""


@router.post(
    "",
    response_model=ChatCompletion,
    openapi_extra=json_body(CreateChatCompletion),
    responses=ASKED_ANSWERS,
)
async def create_chat_completion(
    services: Serviced, body: JsonBody, *, request: Request
) -> ChatCompletion | Response:
    """Say the next turn of a conversation; with `stream`, as server-sent events while it is made.

    The template and the tokens that end an answer are those of training. Where the client goes,
    the model stops.
    """
    wanted = read_shape(CreateChatCompletion, body)
    question = Question(
        asked=wanted.to_chat(),
        sampling=wanted.to_sampling(),
        answers=wanted.n or 1,
        answerer=await find_answerer(services, wanted.model),
    )
    writer = _Writer(new_answer_id("chatcmpl"), services.now(), wanted)
    if wanted.stream:
        return await streamed(
            told(services, question), begin=writer.begin, tell=writer.tell, end=writer.end
        )
    answered = await unless_gone(request, whole(services, question))
    return answered if isinstance(answered, Response) else writer.whole(*answered)


@dataclass(frozen=True)
class _Writer:
    """Writes one answer in OpenAI's shapes."""

    id: str
    created: int
    wanted: CreateChatCompletion

    def whole(self, asked: int, answers: list[Said]) -> ChatCompletion:
        return ChatCompletion(
            id=self.id,
            created=self.created,
            model=self.wanted.model,
            choices=[
                ChatChoice(
                    index=number,
                    message=ChatAnswer.to_wire(said.text, said.calls),
                    logprobs=self._logprobs(said.spelled),
                    finish_reason=said.finish.value,
                )
                for number, said in enumerate(answers)
            ],
            usage=Usage.of(asked, sum(said.tokens for said in answers)),
        )

    def begin(self, answer: int) -> list[Wire]:
        return [self._chunk(answer, ChatDelta(role="assistant", content=""))]

    def tell(self, piece: Piece) -> list[Wire]:
        chunks: list[Wire] = []
        if piece.text or piece.spelled:
            delta = ChatDelta(content=piece.text)
            chunks.append(self._chunk(piece.answer, delta, piece=piece))
        if piece.calls:
            calls = [CallDelta.to_wire(call, index=at) for at, call in enumerate(piece.calls)]
            chunks.append(self._chunk(piece.answer, ChatDelta(tool_calls=calls)))
        if piece.finish is not None:
            chunks.append(self._chunk(piece.answer, ChatDelta(), finish=piece))
        return chunks

    def end(self, asked: int, said: int) -> list[Wire]:
        if not self.wanted.counts:
            return []
        return [
            ChatChunk(
                id=self.id,
                created=self.created,
                model=self.wanted.model,
                choices=[],
                usage=Usage.of(asked, said),
            )
        ]

    def _chunk(
        self,
        answer: int,
        delta: ChatDelta,
        *,
        piece: Piece | None = None,
        finish: Piece | None = None,
    ) -> ChatChunk:
        choice = ChatChunkChoice(
            index=answer,
            delta=delta,
            logprobs=self._logprobs(piece.spelled) if piece else None,
            finish_reason=finish.finish.value if finish and finish.finish else None,
        )
        return ChatChunk(
            id=self.id, created=self.created, model=self.wanted.model, choices=[choice]
        )

    def _logprobs(self, spelled: list[Spelling] | tuple[Spelling, ...]) -> ChatLogprobs | None:
        return ChatLogprobs.to_wire(spelled) if self.wanted.logprobs else None
