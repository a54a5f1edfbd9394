"""A run whose held-out loss no longer falls ends, and its best checkpoint is the result."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

import pytest

from tunesmith.domain.failures import FailureCode
from tunesmith.domain.spec import EarlyStopping
from tunesmith.training import loop
from tunesmith.training.early_stopping import Standing
from tunesmith.training.objective import Sums

if TYPE_CHECKING:
    from collections.abc import Callable

    from unit.training.conftest import Bench, Rows

STOPPING: dict[str, Any] = {
    "held_out_percent": 20.0,
    "n_epochs": 5,
    "evaluate_every": 1,
    "keep_checkpoints": 1,
    "early_stopping": EarlyStopping(patience=2),
}


def course(losses: list[float], **rule: Any) -> list[Standing]:
    """The standings after evaluations that find `losses`, at steps 1, 2, ..."""
    stopping = EarlyStopping(**rule)
    evaluations = enumerate(losses, start=1)
    return list(
        accumulate(
            evaluations, lambda at, found: at.after(*found, rule=stopping), initial=Standing()
        )
    )[1:]


def test_the_best_is_the_lowest_and_of_equals_the_first() -> None:
    assert [at.best_step for at in course([3.0, 2.0, 2.0, 2.5, 1.0])] == [1, 2, 2, 2, 5]


def test_patience_counts_evaluations_in_a_row_and_begins_anew_at_a_new_low() -> None:
    assert [at.in_vain for at in course([3.0, 3.0, 4.0, 2.0, 2.0])] == [0, 1, 2, 0, 1]


def test_a_fall_of_no_more_than_min_delta_is_in_vain_though_it_is_the_best() -> None:
    last = course([3.0, 2.9, 2.8, 2.7], min_delta=0.25)

    assert [at.in_vain for at in last] == [0, 1, 2, 0]
    assert [at.best_step for at in last] == [1, 2, 3, 4]


def test_a_loss_that_is_not_a_number_is_never_the_best() -> None:
    last = course([float("nan"), 2.0, float("nan")])[-1]

    assert (last.best_step, last.in_vain) == (2, 1)


@pytest.fixture
def _u_shaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the held-out loss fall up to step 3 and rise then, whatever the model."""
    steps = {1: 3.0, 2: 2.0, 3: 1.0}

    def evaluate(*_: object, **__: object) -> Sums:
        return Sums(loss=2 * steps.get(step[0], 1.5), correct=1, count=2)

    step = [0]
    learn = loop.learn

    def note_and_learn(course: loop.Course, at: int) -> None:
        step[0] = at
        learn(course, at)

    monkeypatch.setattr(loop, "evaluate", evaluate)
    monkeypatch.setattr(loop, "learn", note_and_learn)


@pytest.mark.usefixtures("_u_shaped")
def test_the_run_ends_when_patience_does_and_hands_out_the_best_checkpoint(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(20), **STOPPING)

    assert bench.train().error is None

    best = bench.artifacts.get(f"{bench.run.checkpoint(3)}/adapter_model.safetensors")
    assert [one.step for one in bench.metrics()] == [1, 2, 3, 4, 5]
    assert bench.run.checkpoint_steps() == [3, 5]
    assert bench.adapter() == best
    assert bench.messages()[-3] == (
        "Stopped early at step 5 of 20: the validation loss was lowest at step 3 (1.0000) and did "
        "not fall anew in 2 evaluations; the checkpoint of that step is the result"
    )


@pytest.mark.usefixtures("_u_shaped")
@pytest.mark.parametrize(
    "moment", [b"Step 4/", b"Checkpoint saved at step 3", b"Stopped early", b"Training finished"]
)
def test_a_killed_run_stops_at_the_same_step_with_the_same_result(
    new_bench: Callable[[str], Bench],
    rows: Callable[[int], Rows],
    moment: bytes,
) -> None:
    whole, killed = new_bench("whole"), new_bench("killed")
    whole.write_spec(rows(20), **STOPPING)
    whole.train()
    killed.write_spec(rows(20), **STOPPING)
    killed.train_until(moment)

    killed.train(attempt=2)

    assert [one.step for one in killed.metrics()] == [1, 2, 3, 4, 5]
    assert killed.run.checkpoint_steps() == whole.run.checkpoint_steps()
    assert killed.adapter() == whole.adapter()
    assert sum(text.startswith("Stopped early") for text in killed.messages()) == 1


def test_a_run_that_goes_to_its_end_hands_out_the_best_checkpoint_as_well(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(12), **{**STOPPING, "early_stopping": EarlyStopping(patience=1000)})

    bench.train()

    evaluated = {one.step: one.valid_loss for one in bench.metrics() if one.valid_loss is not None}
    best = min(evaluated, key=lambda step: evaluated[step])
    assert bench.messages()[-3].startswith("Ran to step 15 of 15: the validation loss was lowest")
    assert bench.adapter() == bench.artifacts.get(
        f"{bench.run.checkpoint(best)}/adapter_model.safetensors"
    )


def test_early_stopping_without_held_out_examples_is_a_failure_that_says_what_to_give(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(8), **{**STOPPING, "held_out_percent": 0.0})

    error = bench.train().error

    assert error is not None
    assert error.code is FailureCode.INVALID_HYPERPARAMETERS
    assert error.param == "early_stopping"
    assert "Give a validation file" in error.message
