"""What ranks share, exchange and add up, each in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

from tunesmith.domain.failures import FailureCode
from tunesmith.training.examples import Examples
from tunesmith.training.failures import RunFailedError
from tunesmith.training.fitting import Division
from tunesmith.training.group import ALONE, Group, PeerFailedError, shares

Result = TypeVar("Result")


class Table:
    """Where the threads of a test meet."""

    def __init__(self, size: int) -> None:
        self._barrier = Barrier(size, timeout=10)
        self._laid: list[Any] = [None] * size

    def meet(self, rank: int, said: Any) -> list[Any]:
        self._laid[rank] = said
        self._barrier.wait()
        heard = list(self._laid)
        self._barrier.wait()
        return heard


class ThreadLine:
    """Connects threads, as `TorchLine` connects processes."""

    def __init__(self, table: Table, rank: int) -> None:
        self._table, self._rank = table, rank

    def gather(self, said: Any) -> list[Any]:
        return self._table.meet(self._rank, said)

    def add_up(self, values: torch.Tensor) -> None:
        values.copy_(torch.stack(self._table.meet(self._rank, values.clone())).sum(dim=0))


def in_ranks(size: int, act: Callable[[Group], Result]) -> list[Result]:
    """Return what `act` returns in each of `size` ranks."""
    table = Table(size)
    groups = [Group(rank, size, f"node-{rank}", ThreadLine(table, rank)) for rank in range(size)]
    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(act, groups))


def examples_of(lengths: Sequence[int]) -> Examples:
    ends = np.cumsum(lengths)
    places = np.arange(len(lengths))
    return Examples(
        tokens=np.arange(ends[-1], dtype=np.int32),
        learn=np.ones(ends[-1], dtype=np.bool_),
        starts=(ends - np.array(lengths))[:, None],
        ends=ends[:, None],
        cut=np.zeros((len(lengths), 1), dtype=np.bool_),
        lines=places + 1,
        elements=np.zeros_like(places),
    )


LENGTHS = [40, 3, 7, 500, 20, 20, 9, 300, 11, 5]


@pytest.mark.parametrize("size", [1, 2, 3, 16])
def test_each_example_is_one_ranks_share_and_is_in_one_micro_batch(size: int) -> None:
    examples, chosen = examples_of(LENGTHS), np.array([9, 3, 0, 7, 1, 8])

    parts = shares(examples, chosen, size=size)
    groups = [Group(rank, size) for rank in range(size)]
    cut = [list(Division(examples, chosen, most=64, group=group)) for group in groups]

    assert sorted(np.concatenate(parts)) == sorted(chosen)
    assert [sorted(at for batch in own for at in batch.examples) for own in cut] == [
        sorted(part) for part in parts
    ]
    everything = [list(Division(examples, chosen, group=group).of_all()) for group in groups]
    assert {tuple(at for batch in each for at in batch.examples) for each in everything} == {
        tuple(at for batch in everything[0] for at in batch.examples)
    }


def test_shares_have_nearly_as_many_tokens_and_keep_their_order() -> None:
    examples = examples_of([7, 5, 5, 4, 4, 3, 3, 3])

    parts = shares(examples, examples.all, size=2)

    assert [int(examples.lengths[part].sum()) for part in parts] == [17, 17]
    assert all(list(part) == sorted(part) for part in parts)


def test_gradients_are_added_up_and_one_that_nobody_has_stays_none() -> None:
    def act(group: Group) -> list[Any]:
        weights = [torch.nn.Parameter(torch.zeros(2, 2)) for _ in range(3)]
        weights[0].grad = torch.full((2, 2), 1.0 + group.rank)
        if group.rank == 1:
            weights[1].grad = torch.full((2, 2), 5.0)
        group.add_gradients(weights)
        return [None if w.grad is None else w.grad.tolist() for w in weights]

    assert in_ranks(2, act) == [[[[3.0, 3.0]] * 2, [[5.0, 5.0]] * 2, None]] * 2


def test_one_alone_keeps_its_very_gradient_and_hears_itself() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = gradient = torch.ones(2)

    ALONE.add_gradients([weight])

    assert weight.grad is gradient
    assert ALONE.exchange("said") == ["said"]
    assert ALONE.first(lambda: "found") == "found"


def test_what_the_first_finds_all_have_and_the_others_do_not_look() -> None:
    looked: list[int] = []

    def act(group: Group) -> int:
        def look() -> int:
            looked.append(group.rank)
            return 7

        return group.first(look)

    assert in_ranks(3, act) == [7, 7, 7]
    assert looked == [0]


def test_a_failure_in_one_rank_is_the_failure_of_all() -> None:
    def take_a_step(group: Group) -> None:
        with group.ending_together():
            if group.rank == 1:
                raise RunFailedError(FailureCode.NOTHING_TO_LEARN, "It is empty.", param="file")
            group.exchange("a step")

    def act(group: Group) -> str:
        with pytest.raises(RunFailedError) as failed:
            take_a_step(group)
        error = failed.value.error
        return f"{failed.typename} {error.code} {error.param} {error.message}"

    named = "nothing_to_learn file It is empty."
    assert in_ranks(3, act) == [
        f"{PeerFailedError.__name__} {named}",
        f"{RunFailedError.__name__} {named}",
        f"{PeerFailedError.__name__} {named}",
    ]
