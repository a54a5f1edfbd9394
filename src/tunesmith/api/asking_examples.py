"""Examples of what models are asked, and of their answers, for the API's description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.api.job_examples import BASE, NOW, TUNED
from tunesmith.protocol.chat import (
    ChatAnswer,
    ChatChoice,
    ChatCompletion,
    CreateChatCompletion,
)
from tunesmith.protocol.completions import Completion, CompletionChoice, CreateCompletion
from tunesmith.protocol.embeddings import CreateEmbeddings, EmbeddingList
from tunesmith.protocol.rerank import CreateRerank, RerankList
from tunesmith.protocol.sampling import Usage
from tunesmith.protocol.wire import Wire

QUESTIONS: Mapping[type[Wire], Mapping[str, dict[str, Any]]] = {
    CreateChatCompletion: {
        "A question to a tuned model": {
            "model": TUNED,
            "messages": [{"role": "user", "content": "Which gauge for a 2 mm rod?"}],
            "temperature": 0,
            "max_completion_tokens": 100,
        },
        "Streamed, with the count of tokens": {
            "model": BASE,
            "messages": [
                {"role": "system", "content": "Answer in one sentence."},
                {"role": "user", "content": "Why is the sea salt?"},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    },
    CreateEmbeddings: {
        "Two texts": {"model": BASE, "input": ["a red rod", "a blue rod"]},
    },
    CreateRerank: {
        "Two passages": {
            "model": TUNED,
            "query": "Which gauge for a 2 mm rod?",
            "documents": ["The red one fits up to 3 mm.", "Rods are sold by the metre."],
            "top_n": 1,
        },
    },
    CreateCompletion: {
        "What follows a text": {"model": BASE, "prompt": "Once upon a time", "max_tokens": 30},
    },
}
"""The bodies of each shape that handlers read, by what they ask for."""


def asked_answers() -> list[Wire]:
    """Return an answer of each shape."""
    return [
        ChatCompletion(
            id="chatcmpl-c6RkP1sWd9n4ZlX0vT8bQm2Y",
            created=NOW,
            model=TUNED,
            choices=[
                ChatChoice(
                    index=0,
                    message=ChatAnswer(content="Take the red one."),
                    logprobs=None,
                    finish_reason="stop",
                )
            ],
            usage=Usage.of(21, 6),
        ),
        Completion(
            id="cmpl-P1sWd9n4ZlX0vT8bQm2Yc6Rk",
            created=NOW,
            model=BASE,
            choices=[
                CompletionChoice(
                    index=0, text=", there was a kettle", logprobs=None, finish_reason="length"
                )
            ],
            usage=Usage.of(5, 6),
        ),
        EmbeddingList.to_wire(
            CreateEmbeddings(model=BASE, input="a red rod"), ((0.6, 0.8),), tokens=4
        ),
        RerankList.to_wire(
            CreateRerank(model=TUNED, query="Which gauge?", documents=["The red one."]),
            (0.93,),
            id="rerank-sWd9n4ZlX0vT8bQm2Yc6RkP1",
            tokens=9,
        ),
    ]
