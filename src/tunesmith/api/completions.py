"""`/v1/completions`: base models, tuned models and checkpoints go on with texts."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

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
from tunesmith.domain.answers import Piece, Question
from tunesmith.domain.ids import new_answer_id
from tunesmith.protocol.completions import (
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    CreateCompletion,
)
from tunesmith.protocol.reading import read_shape
from tunesmith.protocol.sampling import Usage
from tunesmith.protocol.wire import Wire

router = APIRouter(route_class=WireRoute, prefix="/v1/completions", tags=["answers"])
"""The routes of this resource."""


@router.post(
    "",
    response_model=Completion,
    openapi_extra=json_body(CreateCompletion),
    responses=ASKED_ANSWERS,
)
async def create_completion(
    services: Serviced, body: JsonBody, *, request: Request
) -> Completion | Response:
    """Go on with a text, or each of several; with `stream`, as server-sent events.

    Texts begin as they do in training on texts. Where the client goes, the model stops.
    """
    wanted = read_shape(CreateCompletion, body)
    question = Question(
        asked=wanted.to_prompts(),
        sampling=wanted.to_sampling(),
        answers=wanted.n or 1,
        answerer=await find_answerer(services, wanted.model),
    )
    writer = _Writer(new_answer_id("cmpl"), services.now(), wanted)
    if wanted.stream:
        return await streamed(
            told(services, question), begin=lambda _: [], tell=writer.tell, end=writer.end
        )
    answered = await unless_gone(request, whole(services, question))
    return answered if isinstance(answered, Response) else writer.whole(*answered)


@dataclass(frozen=True)
class _Writer:
    """Writes one answer in OpenAI's shapes."""

    id: str
    created: int
    wanted: CreateCompletion
    spelt: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    """Characters of each answer whose likelihood was told."""

    def whole(self, asked: int, answers: list[Said]) -> Completion:
        logprobs = self.wanted.logprobs is not None
        choices = [
            CompletionChoice(
                index=number,
                text=said.text,
                logprobs=CompletionLogprobs.to_wire(said.spelled) if logprobs else None,
                finish_reason=said.finish.value,
            )
            for number, said in enumerate(answers)
        ]
        usage = Usage.of(asked, sum(said.tokens for said in answers))
        return self._completion(choices, usage=usage)

    def tell(self, piece: Piece) -> list[Wire]:
        logprobs = None
        if self.wanted.logprobs is not None:
            logprobs = CompletionLogprobs.to_wire(piece.spelled, behind=self.spelt[piece.answer])
            self.spelt[piece.answer] += sum(len(each.text) for each in piece.spelled)
        choice = CompletionChoice(
            index=piece.answer,
            text=piece.text,
            logprobs=logprobs,
            finish_reason=piece.finish.value if piece.finish else None,
        )
        return [self._completion([choice])]

    def end(self, asked: int, said: int) -> list[Wire]:
        return [self._completion([], usage=Usage.of(asked, said))] if self.wanted.counts else []

    def _completion(
        self, choices: list[CompletionChoice], *, usage: Usage | None = None
    ) -> Completion:
        return Completion(
            id=self.id,
            created=self.created,
            model=self.wanted.model,
            choices=choices,
            usage=usage,
        )
