"""What texts begin with alike is found whatever their order, and what little there is, is left."""

from __future__ import annotations

import pytest
import torch

from tunesmith.training.prefixes import Prefixes, shared_prefixes

Texts = list[list[int]]

TEXTS: Texts = [[1, 2, 3, 9], [4, 5], [1, 2, 8, 8, 8], [1, 2], [4, 5, 300], [1, 2, 3, 9], [70_000]]
"""Two families, one text that is all of others' beginning, one twice, and one alone."""


def found(texts: Texts) -> Prefixes | None:
    ids = torch.tensor([token for text in texts for token in text])
    return shared_prefixes(ids, [len(text) for text in texts])


def beginnings(texts: Texts) -> list[tuple[int, ...]]:
    return [tuple(text[: at + 1]) for text in texts for at in range(len(text))]


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[::-1], sorted(TEXTS)])
def test_tokens_are_one_just_where_all_before_them_is_the_same(texts: Texts) -> None:
    prefixes = found(texts)
    assert prefixes is not None

    first = dict[tuple[int, ...], int]()
    ones = [first.setdefault(one, len(first)) for one in beginnings(texts)]
    numbers = dict[int, int]()
    renumbered = [numbers.setdefault(one, len(numbers)) for one in prefixes.of.tolist()]

    assert renumbered == ones
    assert len(prefixes.kept) == len(first)


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[::-1], sorted(TEXTS)])
def test_all_places_of_a_token_are_added_up_along_the_chain(texts: Texts) -> None:
    prefixes = found(texts)
    assert prefixes is not None
    sums = [[1] * len(text) for text in texts]
    for text, other, tokens in prefixes.chain:
        for at in range(tokens):
            sums[text][at] += sums[other][at]
    flat = [count for text in sums for count in text]
    alike = beginnings(texts)

    assert [flat[at] for at in prefixes.kept.tolist()] == [
        alike.count(alike[at]) for at in prefixes.kept.tolist()
    ]


@pytest.mark.parametrize(
    "texts", [[[1, 2, 3]], [[1, 2, 3], [2, 2, 3]], [[7, *range(40)], [7, *range(40, 80)]]]
)
def test_where_nothing_or_little_is_alike_each_text_is_left_as_it_is(texts: Texts) -> None:
    assert found(texts) is None
