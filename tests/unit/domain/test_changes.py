"""Which change a failure names, by the rules of `changes.py`."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith.domain.changes import Change, first_change, in_words, less_memory, slower
from tunesmith.domain.spec import JobRequest, Method, Policy, RankingSpec

ANEW: dict[str, Any] = {"gradient_checkpointing": True}
FULL: dict[str, Any] = {"lora": None}


@pytest.mark.parametrize(("rate", "tenth"), [(0.7, 0.07), (1e-3, 1e-4), (1e-7, 1e-8)])
def test_a_tenth_of_a_learning_rate_has_no_more_digits_than_it(rate: float, tenth: float) -> None:
    assert slower(rate) == {"learning_rate": tenth}


def test_there_is_no_learning_rate_below_the_lowest() -> None:
    assert slower(9e-8) is None


@pytest.mark.parametrize(
    ("options", "tokens", "learning", "changes"),
    [
        ({}, 100, True, [ANEW, {"max_length": 50}]),
        (ANEW, 100, True, [{"max_length": 50}]),
        (FULL, 100, True, [ANEW, {"lora": {}}, {"max_length": 50}]),
        ({}, 100, False, [{"max_length": 50}]),
        (ANEW, 9, True, [{"max_length": 8}]),
        (ANEW, 8, True, []),
        (
            ANEW | {"over_length": Policy.REFUSE},
            100,
            True,
            [{"max_length": 50, "over_length": "cut"}],
        ),
        (
            {"method": Method.EMBEDDING, "ranking": RankingSpec(query_max_len=32)},
            100,
            False,
            [{"ranking.passage_max_len": 50}],
        ),
        (
            {"method": Method.RERANK},
            256,
            False,
            [{"ranking.query_max_len": 64, "ranking.passage_max_len": 64}],
        ),
    ],
)
def test_what_takes_less_memory_comes_in_its_order(
    options: dict[str, Any], tokens: int, learning: bool, changes: list[Change]
) -> None:
    mends = less_memory(JobRequest(**options), tokens=tokens, learning=learning)

    assert [mend.change for mend in mends] == changes
    assert first_change(mends) == (changes[0] if changes else None)
    for mend in mends:
        assert mend.words in in_words(mends)


def test_where_nothing_of_a_request_helps_the_words_say_what_does() -> None:
    assert in_words(()) == "Take a smaller base model, or a machine with more memory."
