"""What every store does with estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tunesmith.domain.errors import NotFoundError, StaleJobError
from tunesmith.domain.estimates import Estimate, EstimateStatus, Measurement
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.jobs import JobError
from tunesmith.store.protocol import Store

if TYPE_CHECKING:
    from unit.store.conftest import Examples

FOUND = Measurement(
    peak_memory=2**40,
    startup_seconds=1.5,
    longest_step_seconds=2.0,
    step_seconds=0.5,
    steps=90,
)


def estimate(examples: Examples, name: str = "1") -> Estimate:
    return Estimate(id=f"ftestimate-{name}", created_at=5, job=examples.job(name))


def test_an_estimate_comes_back_as_it_was_added(store: Store, examples: Examples) -> None:
    store.add_estimate(estimate(examples))
    assert store.estimate("ftestimate-1") == estimate(examples)
    with pytest.raises(NotFoundError, match="ftestimate-2"):
        store.estimate("ftestimate-2")


def test_those_that_have_not_ended_are_open_oldest_first(store: Store, examples: Examples) -> None:
    for name in ("b", "a", "c"):
        store.add_estimate(estimate(examples, name))
    error = JobError(code=FailureCode.OUT_OF_MEMORY, message="m", change={"max_length": 8})
    ended = {"status": EstimateStatus.FAILED, "finished_at": 9, "error": error}
    seen = store.estimate("ftestimate-a")
    changed = store.change_estimate(seen, seen.model_copy(update=ended))
    assert [each.id for each in store.open_estimates()] == ["ftestimate-b", "ftestimate-c"]
    assert store.estimate("ftestimate-a") == changed


def test_those_that_have_succeeded_come_newest_first(store: Store, examples: Examples) -> None:
    done = {"status": EstimateStatus.SUCCEEDED, "measurement": FOUND}
    for name in ("a", "b", "c"):
        store.add_estimate(estimate(examples, name).model_copy(update=done))
    store.add_estimate(estimate(examples, "open"))
    found = store.measured_estimates(limit=2)
    assert [each.id for each in found] == ["ftestimate-c", "ftestimate-b"]


def test_an_estimate_that_has_changed_since_it_was_seen_stays_as_it_is(
    store: Store, examples: Examples
) -> None:
    seen = estimate(examples)
    store.add_estimate(seen)
    done = {"status": EstimateStatus.SUCCEEDED, "finished_at": 9, "measurement": FOUND}
    changed = store.change_estimate(seen, seen.model_copy(update=done))
    with pytest.raises(StaleJobError):
        store.change_estimate(seen, seen.model_copy(update={"status": EstimateStatus.RUNNING}))
    assert store.estimate(seen.id) == changed


def test_an_estimate_is_seen_within_its_project_alone(store: Store, examples: Examples) -> None:
    store.within("blue").add_estimate(estimate(examples))
    assert store.estimate("ftestimate-1").project == "blue"
    with pytest.raises(NotFoundError):
        store.within("red").estimate("ftestimate-1")


def test_those_that_ended_long_ago_are_forgotten(store: Store, examples: Examples) -> None:
    for name, at in (("old", 99), ("new", 100), ("open", None)):
        store.add_estimate(estimate(examples, name).model_copy(update={"finished_at": at}))
    assert store.drop_estimates(before=100) == 1
    assert [each.id for each in store.open_estimates()] == ["ftestimate-new", "ftestimate-open"]
