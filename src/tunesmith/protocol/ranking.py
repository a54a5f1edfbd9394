"""How queries and passages are learnt from, as requests give it and jobs show it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field

from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.spec import RANKED, JobRequest, Method, RankingSpec
from tunesmith.protocol.wire import Wire

TextLength = Annotated[int, Field(ge=8, le=1_048_576)]
"""Tokens of the longest query or passage, 8 to 1048576."""

GroupSize = Annotated[int, Field(ge=1, le=256)]
"""Passages that a query is shown with in a step, 1 to 256."""

Instruction = Annotated[str, Field(max_length=1000)]
"""What goes before a text, at most 1000 characters."""

Temperature = Annotated[float, Field(ge=1e-3, le=10)]
"""What similarities are divided by, from 0.001 to 10."""


class RankingRequest(Wire):
    """How queries and passages are learnt from."""

    group_size: GroupSize = 8
    """Passages that a query is shown with in a step: one that answers it, the others do not. They
    are drawn anew in each step, by the seed, and repeated where they are too few."""
    query_max_len: TextLength = 128
    """Tokens of the longest query; what is beyond is treated as `over_length` says."""
    passage_max_len: TextLength = 128
    """Tokens of the longest passage; with `rerank`, query and passage together take as many as both
    lengths add up to."""
    query_instruction: Instruction = ""
    """What goes before each query, letter by letter; a row's own `prompt` goes in its place."""
    passage_instruction: Instruction = ""
    """What goes before each passage, letter by letter."""
    temperature: Temperature = 0.02
    """With `embedding` alone: similarities are divided by it (arXiv:1807.03748)."""
    pooling: Literal["cls", "mean"] = "cls"
    """With `embedding` alone: a text's vector is that of its first token, or the mean over all."""
    normalized: bool = True
    """With `embedding` alone: whether vectors are scaled to length 1."""
    in_batch_negatives: bool = True
    """With `embedding` alone: whether the passages of all other queries of the batch do not answer
    a query either."""

    def to_spec(self) -> RankingSpec:
        """Return it in domain terms."""
        return RankingSpec(**self.model_dump())

    @classmethod
    def of(cls, request: JobRequest) -> Self | None:
        """Return what clients see of it in `request`: nothing where its method has none."""
        if request.method not in RANKED:
            return None
        return cls(**(request.ranking or RankingSpec()).model_dump())


def check_ranking(request: JobRequest, *, place: str, group_size: str) -> None:
    """Raise `InvalidRequestError` where the method of `request` cannot learn as it says.

    `place` and `group_size` are what the dialect calls the whole and its group size.
    """
    ranking = request.ranking
    if ranking is None:
        return
    if request.method not in RANKED:
        raise InvalidRequestError(
            f"'{place}' is for jobs that learn from queries with passages (embedding, rerank); "
            "leave it out.",
            param=place,
        )
    lone = request.method is Method.RERANK or not ranking.in_batch_negatives
    if ranking.group_size == 1 and lone:
        raise InvalidRequestError(
            f"'{group_size}' is 1, so that there is no passage to tell the right one from; make "
            "it at least 2.",
            param=group_size,
        )
