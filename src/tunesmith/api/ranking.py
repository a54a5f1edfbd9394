"""`/v1/embeddings` and `/v1/rerank`: models make vectors of texts, and score passages."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from tunesmith.api.answers import WireRoute
from tunesmith.api.asking import find_answerer, one_piece, unless_gone
from tunesmith.api.body import JsonBody
from tunesmith.api.openapi import json_body
from tunesmith.api.services import Serviced
from tunesmith.domain.answers import Question
from tunesmith.domain.ids import new_answer_id
from tunesmith.domain.spec import Method
from tunesmith.protocol.embeddings import CreateEmbeddings, EmbeddingList
from tunesmith.protocol.reading import read_shape
from tunesmith.protocol.rerank import CreateRerank, RerankList

router = APIRouter(route_class=WireRoute, prefix="/v1", tags=["answers"])
"""The routes of this resource."""


@router.post(
    "/embeddings",
    response_model=EmbeddingList,
    openapi_extra=json_body(CreateEmbeddings),
)
async def create_embeddings(
    services: Serviced, body: JsonBody, *, request: Request
) -> EmbeddingList | Response:
    """Make vectors of texts, pooled as the model was tuned, or by their mean."""
    wanted = read_shape(CreateEmbeddings, body)
    answerer = await find_answerer(services, wanted.model, ranked=Method.EMBEDDING)
    question = Question(answerer=answerer, asked=wanted.to_texts())
    found = await unless_gone(request, one_piece(services, question))
    if isinstance(found, Response):
        return found
    return EmbeddingList.to_wire(wanted, found.vectors, tokens=found.prompt_tokens or 0)


@router.post(
    "/rerank",
    response_model=RerankList,
    openapi_extra=json_body(CreateRerank),
)
async def rerank(services: Serviced, body: JsonBody, *, request: Request) -> RerankList | Response:
    """Order passages by how well they answer a query."""
    wanted = read_shape(CreateRerank, body)
    answerer = await find_answerer(services, wanted.model, ranked=Method.RERANK)
    question = Question(answerer=answerer, asked=wanted.to_passages())
    found = await unless_gone(request, one_piece(services, question))
    if isinstance(found, Response):
        return found
    return RerankList.to_wire(
        wanted, found.scores, id=new_answer_id("rerank"), tokens=found.prompt_tokens or 0
    )
