"""Which texts a step draws: a function of the seed and the step, and fair to all passages."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tunesmith.domain.spec import Method
from tunesmith.training.pool import Pool
from unit.training.ranking import asked, ranking_rows, read_rows

if TYPE_CHECKING:
    from pathlib import Path

    from unit.training.conftest import Bench


def pool(*counts: tuple[int, int], lead: int = 1, group: int = 4) -> Pool:
    """Examples with so many passages that answer and that do not."""
    positives, negatives = (np.array(part, dtype=np.int64) for part in zip(*counts, strict=True))
    sizes = lead + positives + negatives
    texts = np.arange(sizes.sum())
    return Pool(
        starts=texts * 10,
        ends=texts * 10 + 9,
        cut=np.zeros(len(texts), dtype=np.bool_),
        first=np.cumsum(sizes) - sizes,
        positives=positives,
        negatives=negatives,
        lead=lead,
        group=group,
    )


def test_a_draw_is_the_query_one_answer_and_others() -> None:
    found = pool((2, 5), (1, 3)).drawn(np.random.default_rng(0))

    assert found.shape == (2, 5)
    assert found[:, 0].tolist() == [0, 8]
    assert found[0, 1] in {1, 2}
    assert set(found[0, 2:]) < {3, 4, 5, 6, 7}
    assert found[1, 1] == 9
    assert sorted(found[1, 2:]) == [10, 11, 12]


def test_without_a_query_of_its_own_the_answer_comes_first() -> None:
    assert pool((1, 1), lead=0, group=2).drawn(None).tolist() == [[0, 1]]


@pytest.mark.parametrize("seed", range(5))
def test_too_few_are_repeated_evenly(seed: int) -> None:
    [row] = pool((1, 3), group=9).drawn(np.random.default_rng(seed))

    assert sorted(Counter(row[2:].tolist()).values()) == [2, 3, 3]


def test_the_answer_stands_in_where_there_is_nothing_to_draw() -> None:
    assert pool((1, 0), (1, 1), group=3).drawn(None).tolist() == [[0, 1, 1, 1], [2, 3, 4, 4]]


def test_each_passage_is_drawn_as_often_as_the_others() -> None:
    random, some = np.random.default_rng(0), pool((2, 10))

    drawn = Counter(text for _ in range(1000) for text in some.drawn(random)[0].tolist())

    assert drawn[0] == 1000
    assert all(abs(drawn[text] - 500) < 80 for text in (1, 2))
    assert all(abs(drawn[text] - 300) < 60 for text in range(3, 13))


def test_a_part_of_the_examples_keeps_its_own_texts() -> None:
    part = pool((1, 1), (2, 0), (1, 2)).take(np.array([2, 0]))

    assert part.all().tolist() == [6, 7, 8, 9, 0, 1, 2]
    assert part.sides() == [
        *("query", "positive", "negative", "negative"),
        *("query", "positive", "negative"),
    ]


def test_a_step_draws_by_its_seed_and_number_alone(bench: Bench, bert_folder: Path) -> None:
    examples = read_rows(bench, ranking_rows(12), asked(bert_folder, Method.EMBEDDING))

    first = examples.drawn(3, seed=7)

    assert np.array_equal(first.starts, examples.drawn(3, seed=7).starts)
    assert not np.array_equal(first.starts, examples.drawn(4, seed=7).starts)
    assert not np.array_equal(first.starts, examples.drawn(3, seed=8).starts)


def test_where_no_row_has_others_a_draw_is_query_and_answer(
    bench: Bench, bert_folder: Path
) -> None:
    rows = [{"query": "q", "pos": ["p"]}, {"query": "r", "pos": ["s"], "neg": []}]

    examples = read_rows(bench, rows, asked(bert_folder, Method.EMBEDDING))

    assert examples.starts.shape == (2, 2)
