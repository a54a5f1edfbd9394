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


def test_five_steps_far_above_the_first_are_a_failure_that_names_a_smaller_rate(
    bench: Bench, rows: Callable[[int], Rows], losses: dict[int, float]
) -> None:
    bench.write_spec(rows(8), n_epochs=5, learning_rate=1e-2, checkpoint_every=1)
    losses |= {4: 11.0, 5: 300.0, 6: 10.5, 7: 12.0, 8: 10.25}

    error = bench.train().error

    assert error is not None
    assert (error.code, error.param) == (FailureCode.LOSS_EXPLODED, "learning_rate")
    assert error.message == (
        "The loss has grown from 2 in step 1 to 10.25 in step 8, and was above 10 in the last 5 "
        "steps. Set a smaller learning rate than 0.01, such as 0.001."
    )
    assert error.change == {"learning_rate": 1e-3}
    assert bench.run.checkpoint_steps() == [5, 6, 7]


@pytest.mark.parametrize(
    "odd",
    [
        dict.fromkeys(range(4, 8), 300.0),
        dict.fromkeys(range(4, 11), 10.0),
        {1: 0.1} | dict.fromkeys(range(4, 11), 4.5),
    ],
    ids=["four alone", "five times", "small at first"],
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
    losses |= dict.fromkeys(range(4, 10), 30.0)

    bench.train_until(b"Step 8/")
    error = bench.train(attempt=2).error

    assert error is not None
    assert "in step 8" in error.message
