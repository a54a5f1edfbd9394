"""How a text is continued, and what comes of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

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

    @property
    def alone(self) -> Answerer:
        """The same without its adapter."""
        return self.model_copy(update={"adapter": None})
