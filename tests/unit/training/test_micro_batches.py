"""A batch is cut by its tokens, and by the places that its texts take where padding counts."""

from __future__ import annotations

import numpy as np
import pytest

from tunesmith.training.examples import Examples, MicroBatch, micro_batches

MOST = 100
LENGTHS = (9, 51, 2, 9, 20, 51, 9, 2, 150, 30, 2, 3, 40, 2)
"""Tokens of each text; one has more than go through at once."""


def examples() -> Examples:
    ends = np.cumsum(LENGTHS)
    return Examples(
        tokens=np.zeros(ends[-1], dtype=np.int32),
        learn=np.ones(ends[-1], dtype=np.bool_),
        starts=(ends - np.array(LENGTHS))[:, None],
        ends=ends[:, None],
        cut=np.zeros((len(LENGTHS), 1), dtype=np.bool_),
        lines=np.arange(len(LENGTHS)) + 1,
        elements=np.full(len(LENGTHS), -1),
    )


def cut(padding: int | None) -> list[MicroBatch]:
    known = examples()
    return list(micro_batches(known, known.all, most=MOST, padding=padding))


def places(batch: MicroBatch) -> int:
    return max(batch.lengths) * len(batch.lengths)


@pytest.mark.parametrize("padding", [1, 2, None])
def test_each_text_goes_through_once_and_the_longest_first(padding: int | None) -> None:
    lengths = [length for batch in cut(padding) for length in batch.lengths]

    assert lengths == sorted(LENGTHS, reverse=True)


@pytest.mark.parametrize("padding", [1, 2, None])
def test_no_more_tokens_go_through_at_once_unless_a_text_alone_has_more(
    padding: int | None,
) -> None:
    assert all(batch.tokens <= MOST or len(batch.lengths) == 1 for batch in cut(padding))


@pytest.mark.parametrize("padding", [1, 2])
def test_padded_texts_take_so_many_times_as_many_places_and_no_more(padding: int) -> None:
    several = [batch for batch in cut(padding) if len(batch.lengths) > 1]

    assert all(places(batch) <= padding * MOST for batch in several)


def test_the_less_padding_counts_the_fewer_passes_there_are() -> None:
    once, twice, never = (len(cut(padding)) for padding in (1, 2, None))

    assert never < twice < once
