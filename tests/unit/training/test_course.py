"""The course of a run as arithmetic: learning rates, data order, what is held out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tunesmith.training.examples import Examples, batch_of_step, hold_out, seed_of_step
from tunesmith.training.loop import learning_rate, total_steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from unit.training.conftest import Bench, Rows


def rates(bench: Bench, total: int, **changes: object) -> list[float]:
    spec = bench.write_spec([], learning_rate=1.0, **changes)
    return [learning_rate(step, spec, total=total) for step in range(1, total + 1)]


def test_the_linear_schedule_rises_to_its_full_rate_and_falls_in_a_line(bench: Bench) -> None:
    assert rates(bench, 6, warmup_ratio=1 / 3, schedule="linear") == pytest.approx(
        [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    )


def test_the_cosine_schedule_is_half_way_down_in_the_middle(bench: Bench) -> None:
    course = rates(bench, 4, warmup_ratio=0.0, schedule="cosine")

    assert course == pytest.approx([1.0, 0.853553, 0.5, 0.146447], abs=1e-6)


def test_the_constant_schedule_stays_after_warm_up(bench: Bench) -> None:
    course = rates(bench, 4, warmup_ratio=0.5, schedule="constant")

    assert course == pytest.approx([0.5, 1.0, 1.0, 1.0])


def test_a_run_that_is_all_warm_up_divides_by_nothing(bench: Bench) -> None:
    assert rates(bench, 1, warmup_ratio=0.1) == [1.0]


def test_the_number_of_steps_counts_the_smaller_last_batch_and_is_bounded(bench: Bench) -> None:
    assert total_steps(bench.write_spec([], n_epochs=3, batch_size=4), 10) == 9
    assert total_steps(bench.write_spec([], n_epochs=3, batch_size=4, max_steps=5), 10) == 5


def test_each_epoch_sees_each_example_once_in_an_order_of_its_own() -> None:
    def epoch(steps: range, seed: int) -> list[int]:
        batches = [batch_of_step(s, count=10, batch_size=4, seed=seed) for s in steps]
        assert [len(batch) for batch in batches] == [4, 4, 2]
        return [int(at) for batch in batches for at in batch]

    first, second, other = epoch(range(1, 4), 7), epoch(range(4, 7), 7), epoch(range(1, 4), 8)

    assert sorted(first) == sorted(second) == sorted(other) == list(range(10))
    assert first != second
    assert first != other
    assert first == epoch(range(1, 4), 7)


def test_each_step_has_dropout_of_its_own_from_the_seed() -> None:
    seeds = {seed_of_step(step, seed=seed) for step in range(1, 50) for seed in (-7, 7, 8)}

    assert len(seeds) == 49 * 3
    assert seed_of_step(5, seed=7) == seed_of_step(5, seed=7)


def examples(count: int) -> Examples:
    ends = np.arange(1, count + 1)
    return Examples(
        tokens=np.zeros(count, dtype=np.int32),
        learn=np.ones(count, dtype=np.bool_),
        starts=ends[:, None] - 1,
        ends=ends[:, None],
        cut=np.zeros((count, 1), dtype=np.bool_),
        lines=ends,
        elements=np.zeros(count, dtype=np.int64),
    )


def test_a_batch_is_named_by_its_lines_or_in_an_array_by_its_examples_numbers() -> None:
    of_lines = examples(9)
    of_array = replace(of_lines, elements=of_lines.lines, lines=np.ones(9, dtype=np.int64))
    chosen = np.array([7, 2])

    assert of_lines.places(chosen) == "lines 3, 8"
    assert of_array.places(chosen) == "examples 3 (line 1), 8 (line 1)"
    assert of_array.take(chosen).places(np.array([0])) == "examples 8 (line 1)"


def test_what_is_held_out_is_not_learnt_and_depends_on_the_seed() -> None:
    learnt, held_out = hold_out(examples(40), percent=10.0, seed=7)
    _, other = hold_out(examples(40), percent=10.0, seed=8)

    assert len(held_out) == 4
    assert sorted([*learnt.lines, *held_out.lines]) == list(range(1, 41))
    assert held_out.lines.tolist() != other.lines.tolist()


@pytest.mark.parametrize(
    ("count", "percent", "held_out"), [(40, 0.0, 0), (3, 1.0, 1), (2, 99.0, 1), (1, 50.0, 0)]
)
def test_at_least_one_example_is_learnt_and_one_held_out_where_possible(
    count: int, percent: float, held_out: int
) -> None:
    learnt, held = hold_out(examples(count), percent=percent, seed=7)

    assert (len(learnt), len(held)) == (count - held_out, held_out)


def test_max_examples_takes_the_first_ones(bench: Bench, rows: Callable[[int], Rows]) -> None:
    bench.write_spec(rows(12), max_examples=5, batch_size=1, n_epochs=1)

    bench.train()

    assert len(bench.metrics()) == 5
