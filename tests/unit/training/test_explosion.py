"""A loss that has exploded ends the run, and a single odd batch does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tunesmith.domain.failures import FailureCode
from tunesmith.training import loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from unit.training.conftest import Bench, Rows


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """The losses that steps are said to have, by step; 2 where the test sets none."""
    said: dict[int, float] = {}
    learn = loop.learn

    def learn_and_say(course: loop.Course, step: int) -> None:
        learn(course, step)
        progress = course.learner.progress
        assert progress.metrics is not None
        progress.metrics = progress.metrics.model_copy(update={"train_loss": said.get(step, 2.0)})

    monkeypatch.setattr(loop, "learn", learn_and_say)
    return said


def test_three_steps_far_above_the_first_are_a_failure_that_names_a_smaller_rate(
    bench: Bench, rows: Callable[[int], Rows], losses: dict[int, float]
) -> None:
    bench.write_spec(rows(8), n_epochs=5, learning_rate=1e-2, checkpoint_every=1)
    losses |= {4: 21.0, 5: 300.0, 6: 20.5}

    error = bench.train().error

    assert error is not None
    assert (error.code, error.param) == (FailureCode.LOSS_EXPLODED, "learning_rate")
    assert error.message == (
        "The loss has grown from 2 in step 1 to 20.5 in step 6, and was above 20 in the last 3 "
        "steps. Set a smaller learning rate than 0.01, such as 0.001."
    )
    assert bench.run.checkpoint_steps() == [3, 4, 5]


@pytest.mark.parametrize(
    "odd",
    [{4: 300.0, 5: 300.0}, {4: 20.0, 5: 20.0, 6: 20.0}, {1: 0.1, 4: 9.0, 5: 9.0, 6: 9.0}],
    ids=["two alone", "ten times", "small at first"],
)
def test_less_than_that_is_none(
    bench: Bench, rows: Callable[[int], Rows], losses: dict[int, float], odd: dict[int, float]
) -> None:
    bench.write_spec(rows(8), n_epochs=5)
    losses |= odd

    assert bench.train().error is None


def test_a_killed_run_fails_at_the_same_step(
    bench: Bench, rows: Callable[[int], Rows], losses: dict[int, float]
) -> None:
    bench.write_spec(rows(8), n_epochs=5, checkpoint_every=1)
    losses |= {4: 30.0, 5: 30.0, 6: 30.0}

    bench.train_until(b"Step 6/")
    error = bench.train(attempt=2).error

    assert error is not None
    assert "in step 6" in error.message
