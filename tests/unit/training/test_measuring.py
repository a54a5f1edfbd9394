"""A run that only measures takes steps on its longest examples, and makes no result."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tunesmith.domain.failures import FailureCode
from tunesmith.training import measuring
from tunesmith.training.loop import Course, learn
from unit.training.conftest import Bench, Rows


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The lengths of the examples of each step that is taken."""
    lengths: list[list[int]] = []

    def noting(course: Course, step: int) -> None:
        lengths.append(sorted(course.learnt.lengths.tolist(), reverse=True))
        learn(course, step)

    monkeypatch.setattr(measuring, "learn", noting)
    return lengths


def test_two_steps_learn_from_the_longest_examples_and_one_from_any(
    bench: Bench, rows: Callable[[int], Rows], chosen: list[list[int]]
) -> None:
    bench.write_spec(rows(30), measured=True, n_epochs=3, held_out_percent=20.0)

    outcome = bench.train()

    assert outcome.error is None
    found = bench.run.measurement()
    longest, again, usual = chosen
    assert longest == again
    assert len(longest) == len(usual) == 4
    assert all(long >= any_ for long, any_ in zip(longest, usual, strict=True))
    assert sum(longest) > sum(usual)
    # 24 examples are learnt from.
    assert found.steps == 18
    assert found.peak_memory > 10_000_000
    assert found.longest_step_seconds > 0
    assert found.step_seconds > 0
    assert found.startup_seconds >= 0


def test_nothing_is_kept_of_the_steps(bench: Bench, rows: Callable[[int], Rows]) -> None:
    bench.write_spec(rows(30), measured=True)

    bench.train()

    assert bench.metrics() == []
    assert bench.run.checkpoint_steps() == []
    assert not bench.output.exists()


def test_fewer_examples_than_a_batch_are_measured_too(
    bench: Bench, rows: Callable[[int], Rows], chosen: list[list[int]]
) -> None:
    bench.write_spec(rows(3), measured=True, batch_size=16, n_epochs=1, max_steps=1)

    assert bench.train().error is None

    assert [len(lengths) for lengths in chosen] == [3, 3, 3]
    assert bench.run.measurement().steps == 1


def test_an_example_that_does_not_fit_is_named_with_the_smaller_setting(
    bench: Bench, rows: Callable[[int], Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write_spec(rows(30), measured=True)

    def lack(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("tunesmith.training.supervised.Supervised.measure", lack)
    outcome = bench.train()

    assert outcome.error is not None
    assert outcome.error.code is FailureCode.OUT_OF_MEMORY
    assert outcome.error.change is not None
