"""How well passages answer a query, in the shape that Jina's and vLLM's `/v1/rerank` share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from tunesmith.domain.answers import Passages
from tunesmith.protocol.wire import Wire

_MOST_DOCUMENTS = 1000


class RerankDocument(Wire):
    """A passage."""

    text: Annotated[str, Field(min_length=1)]
    """What it says."""


class CreateRerank(Wire):
    """Asks for the order of passages by how well they answer a query."""

    model: Annotated[str, Field(min_length=1)]
    """A tuned model or checkpoint that was tuned by `rerank`, or a base model that scores."""
    query: Annotated[str, Field(min_length=1)]
    """The query."""
    documents: Annotated[
        list[Annotated[str, Field(min_length=1)] | RerankDocument],
        Field(min_length=1, max_length=_MOST_DOCUMENTS),
    ]
    """The passages."""
    top_n: Annotated[int, Field(ge=1)] | None = None
    """How many of the best are told; null means all."""
    return_documents: bool | None = None
    """Whether the passages are told too; null means so."""

    @property
    def texts(self) -> list[str]:
        """The passages as texts."""
        return [each if isinstance(each, str) else each.text for each in self.documents]

    def to_passages(self) -> Passages:
        """Return what is asked."""
        return Passages(query=self.query, passages=tuple(self.texts))


class RerankResult(Wire):
    """A passage with its score."""

    index: int
    """Its number among the passages that were sent, from 0."""
    relevance_score: float
    """How well it answers, from 0 to 1."""
    document: Annotated[
        RerankDocument | None, Field(exclude_if=lambda document: document is None)
    ] = None
    """What it says."""


class RerankUsage(Wire):
    """How many tokens there were."""

    total_tokens: int
    """Of all pairs of the query and a passage, as far as the model reads them."""


class RerankList(Wire):
    """The passages in their order."""

    id: str
    """`rerank-…`."""
    model: str
    """The model, as it was asked for."""
    results: list[RerankResult]
    """The passages, the best first."""
    usage: RerankUsage
    """How many tokens there were."""

    @classmethod
    def to_wire(
        cls, wanted: CreateRerank, scores: Sequence[float], *, id: str, tokens: int
    ) -> RerankList:
        """Return the passages by their `scores`; they have so many `tokens` with the query."""
        texts, shown = wanted.texts, wanted.return_documents is not False
        best = sorted(range(len(scores)), key=lambda number: -scores[number])
        results = [
            RerankResult(
                index=number,
                relevance_score=scores[number],
                document=RerankDocument(text=texts[number]) if shown else None,
            )
            for number in best[: wanted.top_n]
        ]
        return cls(
            id=id, model=wanted.model, results=results, usage=RerankUsage(total_tokens=tokens)
        )
