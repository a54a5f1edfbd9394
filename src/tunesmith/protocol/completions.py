"""OpenAI's completions: texts in, what follows them out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from tunesmith.domain.answers import Prompts, Sampling, Spelling
from tunesmith.protocol.sampling import MOST_TOKENS, FinishReason, SampledRequest, Usage
from tunesmith.protocol.wire import Only, Wire, expecting

_MOST_LOGPROBS = 5
_USUAL_TOKENS = 16
"""Tokens of an answer where the request names none, as with OpenAI."""

Token = Annotated[int, Field(ge=0)]
"""The id of a token."""


class CreateCompletion(SampledRequest):
    """Asks for what follows a text, or each of several."""

    prompt: Annotated[
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=64)]
        | Annotated[list[Token], Field(min_length=1)]
        | Annotated[
            list[Annotated[list[Token], Field(min_length=1)]], Field(min_length=1, max_length=64)
        ],
        expecting("a text, the ids of its tokens, or a list of up to 64 of either"),
    ]
    """The text, the ids of its tokens, or several of either."""
    max_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = None
    """The most tokens of an answer; null means 16."""
    logprobs: Annotated[int, Field(ge=0, le=_MOST_LOGPROBS)] | None = None
    """How many of the likeliest tokens are told at each place; null means none, nor the chosen."""
    best_of: Annotated[int, Only(1, mend="ask for 'n' answers and choose")] | None = None
    """Out of how many answers the best is told."""
    echo: Annotated[bool, Only(False, mend="put the prompt before the answer")] | None = None
    """Whether the answer begins with the prompt."""
    suffix: None = None
    """Always null: no model here fills gaps."""

    def to_prompts(self) -> Prompts:
        """Return what is asked."""
        given = self.prompt
        if isinstance(given, str):
            return Prompts(prompts=(given,))
        if isinstance(given[0], int):
            return Prompts(prompts=(tuple(token for token in given if isinstance(token, int)),))
        return Prompts(
            prompts=tuple(
                each if isinstance(each, str) else tuple(each)
                for each in given
                if not isinstance(each, int)
            )
        )

    def to_sampling(self) -> Sampling:
        """Return how the answers are sampled."""
        return self.sampling_with(
            max_tokens=self.max_tokens or _USUAL_TOKENS, logprobs=self.logprobs
        )


class CompletionLogprobs(Wire):
    """How likely the tokens of an answer are."""

    tokens: list[str]
    """What each writes."""
    token_logprobs: list[float]
    """The log-probability of each, in nats."""
    top_logprobs: list[dict[str, float]]
    """The likeliest tokens at the place of each."""
    text_offset: list[int]
    """Where each begins in the answer, in characters."""

    @classmethod
    def to_wire(cls, spelled: Sequence[Spelling], *, behind: int = 0) -> CompletionLogprobs:
        """Return the tokens that were `spelled`, which begin `behind` so many characters."""
        offsets = []
        for each in spelled:
            offsets.append(behind)
            behind += len(each.text)
        return cls(
            tokens=[each.text for each in spelled],
            token_logprobs=[each.logprob for each in spelled],
            top_logprobs=[
                {other.text: other.logprob for other in each.likeliest} for each in spelled
            ],
            text_offset=offsets,
        )


class CompletionChoice(Wire):
    """One answer, or what is told next of it."""

    index: int
    """Its number, from 0; the answers to the first prompt come first."""
    text: str
    """What it says."""
    logprobs: CompletionLogprobs | None
    """How likely its tokens are, where that was asked for."""
    finish_reason: FinishReason | None
    """Why it ended; null while it goes on."""


class Completion(Wire):
    """The answers, or a server-sent event of them."""

    id: str
    """`cmpl-…`, the same in all events of a stream."""
    object: Literal["text_completion"] = "text_completion"
    """Tells the kinds of objects apart."""
    created: int
    """Unix seconds."""
    model: str
    """The model, as it was asked for."""
    choices: list[CompletionChoice]
    """The answers; in a stream one, or none in the event that counts."""
    usage: Annotated[Usage | None, Field(exclude_if=lambda usage: usage is None)] = None
    """How many tokens there were; in a stream, in the last event where that was asked for."""
    system_fingerprint: None = None
    """Always null."""
