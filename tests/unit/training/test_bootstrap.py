"""Intervals by the bootstrap: of the width that statistics knows, and the same at each call."""

from __future__ import annotations

import numpy as np
import pytest

from tunesmith.domain.verdicts import Interval, VerdictOutcome, outcome_of
from tunesmith.training.bootstrap import drawn_sums, interval, widened_tail
from tunesmith.training.verdict import measure_of


def mean_interval(values: np.ndarray) -> Interval:
    columns = np.stack([values, np.ones(len(values))], axis=1)
    draws = drawn_sums(columns)
    return interval(lambda sums: sums[..., 0] / sums[..., 1], columns, draws=draws)


def test_the_interval_of_a_mean_of_many_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, size=400)

    found = mean_interval(values)

    error = values.std(ddof=1) / np.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.966 * error, abs=0.15 * error)
    assert found.high == pytest.approx(values.mean() + 1.966 * error, abs=0.15 * error)


def test_the_same_lines_have_the_same_interval_at_each_call() -> None:
    values = np.random.default_rng(2).exponential(size=50)
    assert mean_interval(values) == mean_interval(values)


@pytest.mark.parametrize(("lines", "tail"), [(5, 0.00095), (10, 0.0086), (30, 0.0188)])
def test_few_lines_have_a_wider_interval(lines: int, tail: float) -> None:
    # By Student's quantiles of tables: 2.776, 2.262 and 2.045.
    assert widened_tail(lines) == pytest.approx(tail, rel=0.03)


def test_many_lines_have_the_usual_one_and_a_single_line_all_there_is() -> None:
    assert widened_tail(100_000) == pytest.approx(0.025, rel=1e-3)
    assert widened_tail(1) == 0.0
    assert mean_interval(np.array([4.0])) == Interval(value=4.0, low=4.0, high=4.0)


@pytest.mark.parametrize("lines", [8, 40])
def test_an_interval_holds_the_true_mean_about_as_often_as_it_claims(lines: int) -> None:
    random = np.random.default_rng(3)
    held = 0
    for _ in range(100):
        found = mean_interval(random.normal(1.0, 1.0, size=lines))
        held += found.low <= 1.0 <= found.high
    assert 89 <= held <= 100


def test_the_loss_is_weighted_by_tokens_and_compared_on_the_same_draws() -> None:
    random = np.random.default_rng(4)
    counts = random.integers(1, 40, size=60).astype(np.float64)
    hard = random.exponential(3.0, size=60)
    before, now = counts * hard, counts * (hard - 0.1)

    loss = measure_of("loss", (before, now), counts=counts, lower=True)

    assert loss.baseline.value == pytest.approx(before.sum() / counts.sum())
    assert loss.tuned.value == pytest.approx(now.sum() / counts.sum())
    # Lines differ by nats, but each fell by the same: no doubt is left.
    assert loss.baseline.high - loss.baseline.low > 0.5
    assert loss.difference.low == pytest.approx(-0.1)
    assert loss.difference.high == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("low", "high", "lines", "outcome"),
    [
        (-0.2, -0.1, 5, VerdictOutcome.BETTER),
        (0.1, 0.2, 5, VerdictOutcome.WORSE),
        (-0.1, 0.2, 5, VerdictOutcome.SAME),
        (-0.1, 0.0, 5, VerdictOutcome.SAME),
        (0.0, 0.1, 5, VerdictOutcome.SAME),
        (-0.2, -0.1, 4, VerdictOutcome.SAME),
        (0.1, 0.2, 4, VerdictOutcome.SAME),
    ],
)
def test_the_outcome_is_told_by_the_interval(
    low: float, high: float, lines: int, outcome: VerdictOutcome
) -> None:
    difference = Interval(value=(low + high) / 2, low=low, high=high)
    assert outcome_of(difference, lines=lines) is outcome
