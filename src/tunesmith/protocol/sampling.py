"""What requests for text have in common: how it is sampled, and how it is told."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from tunesmith.domain.answers import Sampling
from tunesmith.protocol.wire import Wire

MOST_ANSWERS = 8
"""Answers to one question at the most."""
MOST_TOKENS = 2**20
"""The most tokens that a request may name; a model's own limit is lower."""


def _bias(given: dict[str, float] | None) -> dict[str, float] | None:
    for token in given or ():
        if not (token.isascii() and token.isdecimal() and len(token) < 10):
            raise PydanticCustomError("token", "must have ids of tokens as its keys")
    return given


class StreamOptions(Wire):
    """How an answer is streamed."""

    include_usage: bool | None = None
    """Whether a last chunk counts the tokens."""
    include_obfuscation: bool | None = None
    """Taken for OpenAI's sake; nothing is added in any case."""


class SampledRequest(Wire):
    """The fields that all requests for text share.

    Fields of OpenAI's that change nothing here are taken, those that would are refused.
    """

    model: Annotated[str, Field(min_length=1)]
    """A base model, a tuned model or a checkpoint."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """0 takes the likeliest token each time; null means 1."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Only the likeliest tokens that have this share of all likelihood; null means all."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    """The same seed makes the same answer, while the model and its batch compute alike."""
    stop: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=4)]
        | None
    ) = None
    """Texts before the first of which an answer ends."""
    n: Annotated[int, Field(ge=1, le=MOST_ANSWERS)] | None = None
    """How many answers; null means 1."""
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    """Taken off a token's logit for each time it was said."""
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    """Taken off a token's logit once it was said."""
    logit_bias: (
        Annotated[
            dict[str, Annotated[float, Field(ge=-100, le=100)]],
            AfterValidator(_bias),
            Field(json_schema_extra={"propertyNames": {"pattern": "^[0-9]{1,9}$"}}),
        ]
        | None
    ) = None
    """Added to the logits of tokens, by their ids."""
    stream: bool | None = None
    """Whether the answer comes as server-sent events."""
    stream_options: StreamOptions | None = None
    """How it is streamed."""
    user: str | None = None
    """Taken, and kept nowhere."""

    @property
    def counts(self) -> bool:
        """Whether a stream ends with the count of tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling_with(self, *, max_tokens: int | None, logprobs: int | None) -> Sampling:
        """Return how texts are continued."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Sampling(
            max_tokens=max_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            # Numbers below 0 are seeds of OpenAI's, not of torch's.
            seed=None if self.seed is None else self.seed % 2**63,
            stop=stop,
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            logit_bias={int(token): bias for token, bias in (self.logit_bias or {}).items()},
            logprobs=logprobs,
        )


class Usage(Wire):
    """How many tokens there were."""

    prompt_tokens: int
    """Of what was asked."""
    completion_tokens: int
    """Of all answers."""
    total_tokens: int
    """Of both."""

    @classmethod
    def of(cls, asked: int, said: int) -> Usage:
        """Return the usage of a question of `asked` tokens with answers of `said` in all."""
        return cls(prompt_tokens=asked, completion_tokens=said, total_tokens=asked + said)


FinishReason = Literal["stop", "length", "tool_calls"]
"""Why an answer ended: by itself or at a stop, at its limit, or with calls of tools."""
