"""Sides are led through one answer, and a difference beyond the bound is told with its place."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from tunesmith.inference.llama_cpp import _aligned
from tunesmith.inference.parity import Answer, Place, compare, follow_by_asking

ANSWER = Answer(
    shown="Say it",
    prompt=(1, 2),
    tokens=(7, 8, 9),
    logprobs=(-0.1, -0.2, -0.3),
    leads=(3.0, 0.01, 3.0),
)


class Told:
    """A side that says what it is told to."""

    def __init__(self, *places: Place) -> None:
        self.places = list(places)

    def follow(self, answer: Answer) -> list[Place]:
        return self.places


def fault(*places: Place, bound: float = 0.05) -> str | None:
    return compare([ANSWER], Told(*places), name="gguf", by="it", bound=bound).fault


def test_equal_answers_are_taken_with_their_figures() -> None:
    side = Told(Place(7, -0.1), Place(8, -0.22), Place(9, -0.3))
    found = compare([ANSWER], side, name="gguf", by="it", bound=0.05)
    assert found.fault is None
    assert found.comparison.largest_difference == pytest.approx(0.02)
    assert found.comparison.mean_difference == pytest.approx(0.02 / 3)
    assert (found.comparison.near_ties, found.comparison.bound) == (0, 0.05)


def test_another_token_is_taken_where_the_best_two_were_near() -> None:
    side = Told(Place(7, -0.1), Place(5, -0.21), Place(9, -0.3))
    found = compare([ANSWER], side, name="gguf", by="it", bound=0.05)
    assert (found.fault, found.comparison.near_ties) == (None, 1)


def test_another_token_is_refused_where_the_answers_led() -> None:
    told = fault(Place(7, -0.1), Place(8, -0.2), Place(5, -0.31))
    assert told is not None
    assert "'Say it', token 3" in told
    assert "token 5 comes in its place" in told


def test_a_log_probability_beyond_the_bound_is_refused_though_the_token_is_the_same() -> None:
    told = fault(Place(7, -0.1), Place(8, -0.3), Place(9, -0.3))
    assert told is not None
    assert "token 2" in told
    assert "differs by 0.1 nats" in told
    assert fault(Place(7, -0.1), Place(8, -0.3), Place(9, -0.3), bound=0.2) is None


def test_a_token_that_is_not_even_likely_is_refused() -> None:
    told = fault(Place(5, -math.inf), Place(8, -0.2), Place(9, -0.3))
    assert told is not None
    assert "not among the likeliest" in told


def test_of_a_token_whose_likelihood_is_not_told_it_is_enough_that_it_came() -> None:
    assert fault(Place(7, None), Place(5, None), Place(9, -0.3)) is None
    told = fault(Place(5, None), Place(8, -0.2), Place(9, -0.3))
    assert told is not None
    assert "token 5 comes in its place" in told


class Asked:
    """A side that goes on as told, and remembers where it was asked."""

    def __init__(self, *runs: list[dict[int, float]]) -> None:
        self.runs = list(runs)
        self.asked: list[tuple[tuple[int, ...], int]] = []

    def go_on(self, prompt: Sequence[int], count: int) -> list[dict[int, float]]:
        self.asked.append((tuple(prompt), count))
        return self.runs.pop(0)


def test_a_side_that_differs_is_told_the_right_token_and_goes_on_behind_it() -> None:
    side = Asked([{7: -0.1}, {5: -0.2, 8: -0.21}, {4: -1.0}], [{9: -0.3}])
    assert follow_by_asking(side, ANSWER) == [Place(7, -0.1), Place(5, -0.21), Place(9, -0.3)]
    assert side.asked == [((1, 2), 3), ((1, 2, 7, 8), 1)]


def place(token: int) -> dict[str, object]:
    return {"id": token, "top_logprobs": [{"id": token, "logprob": -0.5}]}


def known(tokens: list[int], *told: int) -> list[bool]:
    found = _aligned(tokens, [place(token) for token in told])
    assert [next(iter(each)) for each in found] == tokens
    return [not math.isnan(each[token]) for each, token in zip(found, tokens, strict=True)]


def test_what_llama_cpp_tells_of_tokens_is_taken_where_it_is_sure_which_they_are() -> None:
    assert known([3, 4, 5], 3, 4, 5) == [True, True, True]
    # The second one ended within a character.
    assert known([3, 4, 5], 3, 5) == [True, False, True]
    # One of two alike was not told of, and nobody knows which.
    assert known([3, 4, 4, 5], 3, 4, 5) == [True, False, False, True]
    assert known([3, 4]) == [False, False]
