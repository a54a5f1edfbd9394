"""How a text is continued, and what comes of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from tunesmith.domain.models import CatalogueEntry, WholeModel
from tunesmith.domain.values import Value

MOST_LOGPROBS = 20
"""The most likely tokens that are told of at a place."""


class Sampling(Value):
    """How the next tokens are chosen."""

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """The most tokens; `None` means as many as the model's context has room for."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    """Logits are divided by it; 0 takes the likeliest token each time."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Only the likeliest tokens are drawn from, as few as have this share of all likelihood.
    Holtzman et al. 2019, arXiv:1904.09751."""
    seed: int | None = None
    """Of what is drawn; `None` means any."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts before the first of which it ends."""
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    """Taken off a token's logit for each time that it was said."""
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    """Taken off a token's logit once it was said."""
    logit_bias: dict[int, float] = Field(default_factory=dict)
    """Added to the logits of tokens, by their ids."""
    logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    """How many of the likeliest tokens are told at each place; `None` means not even the chosen."""


class Finish(StrEnum):
    """Why a text ended, in OpenAI's words."""

    STOP = "stop"
    """The model ended it, or said one of the stops."""
    LENGTH = "length"
    """It has as many tokens as it may."""
    TOOL_CALLS = "tool_calls"
    """It ends with calls of tools."""


class Likely(Value):
    """A token with its likelihood."""

    token: int
    """Its id."""
    logprob: float
    """Its log-probability, in nats."""


class Chosen(Value):
    """The token that was chosen at a place."""

    token: int
    """Its id."""
    logprob: float | None = None
    """Its log-probability, in nats; `None` where it was not asked for."""
    likeliest: tuple[Likely, ...] = ()
    """The likeliest tokens, the likeliest first."""


class Answerer(Value):
    """A model that answers: a base model, or what was made of one."""

    base: CatalogueEntry
    """The base model."""
    whole: WholeModel | None = None
    """The tuned model that stands in its place; `None` means the base model itself."""
    adapter: str | None = None
    """Prefix under which `artifacts` holds the adapter on it; `None` means none."""
    rounded: bool = False
    """Whether the weights below the adapter are rounded to 4 bits, as those that it learnt on."""

    @property
    def alone(self) -> Answerer:
        """The same without its adapter."""
        return self.model_copy(update={"adapter": None})


class Call(Value):
    """A call of a tool."""

    id: str
    """By what a tool's message names the call that it answers."""
    name: str
    """Name of the tool."""
    arguments: str
    """Its arguments, JSON as the model wrote it."""


class Turn(Value):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    """Who says it."""
    content: str
    """What is said; may be empty beside calls."""
    calls: tuple[Call, ...] = ()
    """The tools that the assistant calls, behind what it says."""
    call_id: str = ""
    """The call that a tool's message answers; else empty."""
    name: str = ""
    """The tool that a tool's message comes from; else empty."""


class Chat(Value):
    """Asks for the next turn of a conversation."""

    kind: Literal["chat"] = "chat"
    """Tells the kinds of questions apart."""
    turns: Annotated[tuple[Turn, ...], Field(min_length=1)]
    """What was said so far."""
    tools: tuple[dict[str, Any], ...] = ()
    """The tools that may be called, each `{"type": "function", "function": {…}}`."""


class Prompts(Value):
    """Asks for what follows texts."""

    kind: Literal["prompts"] = "prompts"
    """Tells the kinds of questions apart."""
    prompts: Annotated[tuple[str | tuple[int, ...], ...], Field(min_length=1)]
    """The texts, each as it is written or as the ids of its tokens."""


class Texts(Value):
    """Asks for the vectors of texts."""

    kind: Literal["texts"] = "texts"
    """Tells the kinds of questions apart."""
    texts: Annotated[tuple[str | tuple[int, ...], ...], Field(min_length=1)]
    """The texts, each as it is written or as the ids of its tokens."""
    role: Literal["query", "document"] | None = None
    """What the texts are, where the model was tuned with an instruction before these."""


class Passages(Value):
    """Asks how well passages answer a query."""

    kind: Literal["passages"] = "passages"
    """Tells the kinds of questions apart."""
    query: str
    """The query."""
    passages: Annotated[tuple[str, ...], Field(min_length=1)]
    """What may answer it."""


class Question(Value):
    """What a model is asked."""

    answerer: Answerer
    """The model."""
    asked: Annotated[Chat | Prompts | Texts | Passages, Field(discriminator="kind")]
    """What it is asked."""
    sampling: Sampling = Sampling()
    """How texts are continued."""
    answers: Annotated[int, Field(ge=1)] = 1
    """How many answers there are to each conversation or text."""

    @property
    def count(self) -> int:
        """How many answers there are in all; none to what asks for vectors or scores."""
        if isinstance(self.asked, Prompts):
            return self.answers * len(self.asked.prompts)
        return self.answers if isinstance(self.asked, Chat) else 0


class Spelled(Value):
    """A token in words, with its likelihood."""

    text: str
    """What it writes; the replacement character where it is a part of a character."""
    logprob: float
    """Its log-probability, in nats."""


class Spelling(Spelled):
    """A chosen token in words, with the likeliest ones at its place."""

    likeliest: tuple[Spelled, ...] = ()
    """The likeliest tokens, the likeliest first."""


class Fault(Value):
    """Why there is no answer."""

    kind: Literal["asked", "model", "busy", "fault"]
    """Whether the question is at fault, the model is not there, there is no room, or all else."""
    message: str
    """What is wrong, and the mend."""
    param: str | None = None
    """The field of the question at fault."""
    code: str | None = None
    """A stable code."""
    retry_after: int | None = None
    """Seconds after which there may be room."""


class Piece(Value):
    """What is told next of the answers to a question."""

    answer: int = 0
    """Which of the answers, from 0: all those to the first text come first."""
    text: str = ""
    """What it goes on with."""
    spelled: tuple[Spelling, ...] = ()
    """The tokens that were chosen, where their likelihood was asked for."""
    calls: tuple[Call, ...] = ()
    """The tools that it calls, told with its end."""
    finish: Finish | None = None
    """Why it ended, where it did."""
    tokens: int = 0
    """Tokens of the answer, where it ended."""
    prompt_tokens: int | None = None
    """Tokens of all that was asked; only the first piece tells it."""
    vectors: tuple[tuple[float, ...], ...] = ()
    """The vectors of the texts, where those were asked for."""
    scores: tuple[float, ...] = ()
    """How well each passage answers the query, where that was asked for."""
    fault: Fault | None = None
    """Why nothing follows, where something went wrong."""
