"""A run that was cut off goes on as if it never had been."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tunesmith.domain.spec import LoraSpec
from tunesmith.training import checkpoints

if TYPE_CHECKING:
    from collections.abc import Callable

    from unit.training.conftest import Bench, Rows


SPEC = {
    "n_epochs": 3,
    "held_out_percent": 20.0,
    "evaluate_every": 2,
    "checkpoint_every": 3,
    "lora": LoraSpec(rank=4, alpha=8, dropout=0.2),
}


@pytest.fixture(params=[1.0, 0.0], ids=["saved aside", "training waits"], autouse=True)
def saved_aside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The share of a model that is copied to be saved aside: all of it, or nothing."""
    monkeypatch.setattr(checkpoints, "_SMALL", request.param)


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(b"Step 2/", id="before the first checkpoint"),
        pytest.param(b"Checkpoint saved at step 3", id="checkpoint saved but not told"),
        pytest.param(b"Step 5/", id="between two checkpoints"),
        pytest.param(b"Training finished", id="after the last step"),
    ],
)
def test_a_killed_run_ends_with_the_same_bytes_and_losses_as_an_undisturbed_one(
    new_bench: Callable[[str], Bench], rows: Callable[[int], Rows], moment: bytes
) -> None:
    whole, killed = new_bench("whole"), new_bench("killed")
    whole.write_spec(rows(15), **SPEC)
    undisturbed = whole.train()
    killed.write_spec(rows(15), **SPEC)
    killed.train_until(moment)

    outcome = killed.train(attempt=2)

    assert killed.adapter() == whole.adapter()
    assert outcome == undisturbed
    assert _series(killed) == _series(whole)
    assert killed.run.checkpoint_steps() == whole.run.checkpoint_steps()


def test_a_resumed_run_says_from_where_and_tells_each_step_and_checkpoint_once(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(15), **SPEC)
    bench.train_until(b"Step 5/")

    bench.train(attempt=2)

    events = bench.run.events(after=0)
    told = [event.checkpoint.step for event in events if event.checkpoint]
    assert "Resumed from the checkpoint at step 3 of 9" in bench.messages()
    assert [one.step for one in bench.metrics()] == list(range(1, 10))
    assert told == [3, 6, 9]
    assert [event.number for event in events] == list(range(1, len(events) + 1))


def _series(bench: Bench) -> list[tuple[float, float, float | None, float | None, float]]:
    return [
        (
            one.train_loss,
            one.train_mean_token_accuracy,
            one.valid_loss,
            one.valid_mean_token_accuracy,
            one.learning_rate,
        )
        for one in bench.metrics()
    ]
