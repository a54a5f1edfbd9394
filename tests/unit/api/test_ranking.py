"""Vectors of texts, and the order of passages."""

from __future__ import annotations

import base64

import httpx
import numpy as np
import openai

from tunesmith.domain.answers import (
    Passages,
    Piece,
    Texts,
)
from unit.api.conftest import BASE, World


def test_vectors_come_in_both_forms(client: openai.OpenAI, world: World) -> None:
    vectors = ((0.5, -0.25), (1.0, 0.0))
    world.answering.answer = lambda _: (Piece(prompt_tokens=6, vectors=vectors),)

    plain = client.embeddings.create(model=BASE, input=["a", "b"], encoding_format="float")
    packed = client.post(
        "/embeddings",
        body={"model": BASE, "input": [1, 2], "encoding_format": "base64", "input_type": "query"},
        cast_to=httpx.Response,
    ).json()

    assert [each.embedding for each in plain.data] == [[0.5, -0.25], [1.0, 0.0]]
    assert plain.usage.prompt_tokens == 6
    raw = base64.b64decode(packed["data"][0]["embedding"])
    assert np.frombuffer(raw, dtype="<f4").tolist() == [0.5, -0.25]
    asked = [q.asked for q in world.answering.asked if isinstance(q.asked, Texts)]
    assert [(each.texts, each.role) for each in asked] == [(("a", "b"), None), (((1, 2),), "query")]


def test_passages_come_in_the_order_of_their_scores(http: httpx.Client, world: World) -> None:
    world.answering.answer = lambda _: (Piece(prompt_tokens=9, scores=(0.1, 0.9, 0.5)),)
    body = {"model": BASE, "query": "q", "documents": ["a", {"text": "b"}, "c"]}

    whole = http.post("/v1/rerank", json=body).json()
    best = http.post("/v1/rerank", json=body | {"top_n": 1, "return_documents": False}).json()

    found = [
        (each["index"], each["relevance_score"], each["document"]["text"])
        for each in whole["results"]
    ]
    assert found == [(1, 0.9, "b"), (2, 0.5, "c"), (0, 0.1, "a")]
    assert best["results"] == [{"index": 1, "relevance_score": 0.9}]
    assert whole["usage"] == {"total_tokens": 9}
    asked = world.answering.asked[0].asked
    assert isinstance(asked, Passages)
    assert asked.passages == ("a", "b", "c")
