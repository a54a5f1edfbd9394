"""A run ends with the step in which its time is up, and is as whole as any other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tunesmith.training.loop import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from unit.training.conftest import Bench, Rows

VERDICT = "The time is up: 2 seconds of training were over with step 3 of 10, which is the last"


@pytest.fixture(autouse=True)
def _slow_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each step take 0.7 seconds by the run's own clock."""
    monkeypatch.setattr(Stopwatch, "lap", lambda _: 0.7)


def test_the_last_step_in_time_is_evaluated_kept_and_handed_out(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(25), n_epochs=2, held_out_percent=20.0, max_seconds=2)

    assert bench.train().error is None

    last = bench.metrics()[-1]
    assert (last.step, last.total_steps) == (3, 10)
    assert last.valid_loss is not None
    assert bench.run.checkpoint_steps() == [3]
    kept = bench.artifacts.get(f"{bench.run.checkpoint(3)}/adapter_model.safetensors")
    assert bench.adapter() == kept
    assert bench.messages().count(VERDICT) == 1


def test_the_time_that_is_left_is_no_longer_than_the_limit_allows(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(4), n_epochs=50, max_seconds=2)

    bench.train()

    assert all(
        one.seconds_left <= 2 - 0.7 * one.step or not one.seconds_left for one in bench.metrics()
    )
    assert bench.metrics()[-1].seconds_left == 0


def test_a_run_that_is_done_in_time_says_nothing_of_it(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(8), n_epochs=1, max_seconds=60)

    bench.train()

    assert [one.step for one in bench.metrics()] == [1, 2]
    assert not any("time is up" in message for message in bench.messages())


@pytest.mark.parametrize(
    "moment", [b"Step 2/", b"Step 3/", b"The time is up", b"Training finished"]
)
def test_a_killed_run_ends_with_the_same_step_and_bytes(
    new_bench: Callable[[str], Bench], rows: Callable[[int], Rows], moment: bytes
) -> None:
    whole, killed = new_bench("whole"), new_bench("killed")
    for bench in (whole, killed):
        bench.write_spec(rows(20), max_seconds=2, checkpoint_every=1)
    whole.train()

    killed.train_until(moment)
    assert killed.train(attempt=2).error is None

    assert [one.step for one in killed.metrics()] == [1, 2, 3]
    assert killed.adapter() == whole.adapter()
    assert killed.messages().count(VERDICT) == 1


def test_a_slower_attempt_ends_with_a_step_that_it_can_evaluate(
    bench: Bench, rows: Callable[[int], Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stopwatch, "lap", lambda _: 0.3)
    bench.write_spec(rows(25), n_epochs=2, held_out_percent=20.0, max_seconds=2)
    bench.train_until(b"Step 6/")

    monkeypatch.setattr(Stopwatch, "lap", lambda _: 0.7)
    assert bench.train(attempt=2).error is None

    last = bench.metrics()[-1]
    assert [one.step for one in bench.metrics()] == [1, 2, 3, 4, 5, 6]
    assert last.valid_loss is not None
    assert bench.run.checkpoint_steps() == [6]
