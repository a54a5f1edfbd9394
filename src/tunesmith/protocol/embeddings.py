"""OpenAI's embeddings: texts in, vectors out."""

from __future__ import annotations

import base64
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from tunesmith.domain.answers import Texts
from tunesmith.protocol.completions import Token
from tunesmith.protocol.wire import Wire, expecting

_MOST_TEXTS = 2048

_Text = Annotated[str, Field(min_length=1)]


class CreateEmbeddings(Wire):
    """Asks for the vectors of texts."""

    model: Annotated[str, Field(min_length=1)]
    """A base model, or a tuned model or checkpoint that was tuned by `embedding`."""
    input: Annotated[
        _Text
        | Annotated[list[_Text], Field(min_length=1, max_length=_MOST_TEXTS)]
        | Annotated[list[Token], Field(min_length=1)]
        | Annotated[
            list[Annotated[list[Token], Field(min_length=1)]],
            Field(min_length=1, max_length=_MOST_TEXTS),
        ],
        expecting("a text, the ids of its tokens, or a list of up to 2048 of either"),
    ]
    """The text, the ids of its tokens, or several of either."""
    input_type: Literal["query", "document"] | None = None
    """Ours: the texts are begun by the instruction that the model was tuned with for these."""
    encoding_format: Literal["float", "base64"] | None = None
    """How numbers are written: as JSON, which null means too, or as fp32 in base64."""
    dimensions: None = None
    """Always null: a model's vectors have the width that they have."""
    user: str | None = None
    """Taken, and kept nowhere."""

    def to_texts(self) -> Texts:
        """Return what is asked."""
        given = self.input
        if isinstance(given, str):
            return Texts(texts=(given,), role=self.input_type)
        if isinstance(given[0], int):
            whole = tuple(token for token in given if isinstance(token, int))
            return Texts(texts=(whole,), role=self.input_type)
        texts = tuple(
            each if isinstance(each, str) else tuple(each)
            for each in given
            if not isinstance(each, int)
        )
        return Texts(texts=texts, role=self.input_type)


class EmbeddingObject(Wire):
    """The vector of a text."""

    object: Literal["embedding"] = "embedding"
    """Tells the kinds of objects apart."""
    index: int
    """Number of the text, from 0."""
    embedding: list[float] | str
    """The vector; in base64 little-endian numbers of 4 bytes."""


class EmbeddingUsage(Wire):
    """How many tokens there were."""

    prompt_tokens: int
    """Of all texts, as far as the model reads them."""
    total_tokens: int
    """The same."""


class EmbeddingList(Wire):
    """The vectors of texts."""

    object: Literal["list"] = "list"
    """Tells the kinds of objects apart."""
    data: list[EmbeddingObject]
    """The vectors, in the order of the texts."""
    model: str
    """The model, as it was asked for."""
    usage: EmbeddingUsage
    """How many tokens there were."""

    @classmethod
    def to_wire(
        cls, wanted: CreateEmbeddings, vectors: tuple[tuple[float, ...], ...], *, tokens: int
    ) -> EmbeddingList:
        """Return the `vectors` of the texts, which have so many `tokens`, as they are `wanted`."""
        shown = _packed if wanted.encoding_format == "base64" else list
        return cls(
            data=[
                EmbeddingObject(index=number, embedding=shown(vector))
                for number, vector in enumerate(vectors)
            ],
            model=wanted.model,
            usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens),
        )


def _packed(vector: tuple[float, ...]) -> str:
    return base64.b64encode(np.array(vector, dtype="<f4").tobytes()).decode()
