"""Compares the ways to ask one model: all must give the answers that it gave as it was trained.

The model as it was trained answers each prompt greedily. Each other side is led through the same
answer: where its likeliest token is another one, it is told the right one and goes on behind it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tunesmith.domain.exports import Comparison


@dataclass(frozen=True)
class Place:
    """What one side says at one place of an answer."""

    token: int
    """Its likeliest token."""
    logprob: float | None
    """The log-probability that it gives to the answer's own token, in nats; `None` where it does
    not tell it."""


@dataclass(frozen=True)
class Answer:
    """The answer of the model as it was trained."""

    shown: str
    """The prompt, for messages."""
    prompt: tuple[int, ...]
    """Its tokens."""
    tokens: tuple[int, ...]
    """What the model says, the token that ends it included."""
    logprobs: tuple[float, ...]
    """The log-probability of each token, in nats."""
    leads: tuple[float, ...]
    """By how much each token is likelier than the next best, in nats."""


class Side(Protocol):
    """One way to ask a model."""

    def follow(self, answer: Answer) -> list[Place]:
        """Return what it says at each place of `answer`, led through that."""


class Asked(Protocol):
    """A side that can only be asked to go on."""

    def go_on(self, prompt: Sequence[int], count: int) -> list[dict[int, float]]:
        """Return the likeliest tokens with their log-probabilities, best first, of `count` places.

        Each place is behind the likeliest token of the one before. There may be fewer of them. A
        log-probability that is not known is not a number.
        """


def follow_by_asking(side: Asked, answer: Answer) -> list[Place]:
    """Lead `side` through `answer`: it is asked anew behind each place where it differs."""
    places: list[Place] = []
    while len(places) < len(answer.tokens):
        at = len(places)
        told = side.go_on((*answer.prompt, *answer.tokens[:at]), len(answer.tokens) - at)
        if not told:
            raise RuntimeError("nothing was answered")
        for likeliest in told:
            wanted = answer.tokens[len(places)]
            best = next(iter(likeliest))
            places.append(Place(best, _of(likeliest, wanted)))
            if best != wanted:
                break
    return places


def _of(likeliest: dict[int, float], wanted: int) -> float | None:
    """Return the log-probability of `wanted`; infinitely low where all told of are likelier."""
    if any(math.isnan(each) for each in likeliest.values()):
        return None
    return likeliest.get(wanted, -math.inf)


@dataclass(frozen=True)
class Finding:
    """How a side compares, and the worst place where it is beyond the bound."""

    comparison: Comparison
    """The figures."""
    fault: str | None
    """What is beyond the bound and where; `None` where nothing is."""


def compare(answers: Sequence[Answer], side: Side, *, name: str, by: str, bound: float) -> Finding:
    """Return how the side `name`, which `by` reads, compares with `answers`.

    At most `bound` nats are taken.
    Another token than the answer's is taken only where the answer's led by less than the bound.
    """
    differences: list[float] = []
    faults: list[tuple[float, str]] = []
    ties = 0
    for answer in answers:
        for at, place in enumerate(side.follow(answer)):
            other = place.token != answer.tokens[at]
            difference = _difference(place, answer, at=at)
            differences.append(difference)
            near = answer.leads[at] <= bound
            ties += other and near
            if difference > bound or (other and not near):
                faults.append((difference, _told(answer, place, at=at, difference=difference)))
    finite = [each for each in differences if math.isfinite(each)]
    comparison = Comparison(
        side=name,
        read_by=by,
        bound=bound,
        largest_difference=max(finite, default=0.0),
        mean_difference=sum(finite) / max(len(finite), 1),
        near_ties=ties,
    )
    worst = max(faults, default=None)
    return Finding(comparison, worst[1] if worst else None)


def _difference(place: Place, answer: Answer, *, at: int) -> float:
    """Return by how many nats a side differs; infinitely where the token is far from its best."""
    # Of some tokens it is told that they came, not how likely they were.
    return 0.0 if place.logprob is None else abs(place.logprob - answer.logprobs[at])


def _told(answer: Answer, place: Place, *, at: int, difference: float) -> str:
    what = f"its log-probability differs by {difference:.4g} nats"
    if place.logprob is None:
        what = "it led by more than the bound"
    elif math.isinf(difference):
        what = "it is not among the likeliest tokens"
    same = place.token == answer.tokens[at]
    other = "" if same else f", and token {place.token} comes in its place"
    return f"after the prompt {answer.shown!r}, token {at + 1} of the answer: {what}{other}"
