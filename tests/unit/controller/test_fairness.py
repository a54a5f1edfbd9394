"""What projects have used lately."""

from __future__ import annotations

import pytest

from tunesmith.controller.fairness import HALF_LIFE, Ledger
from unit.controller.test_queue import waiting


def test_what_is_held_is_used_as_time_goes_on() -> None:
    ledger = Ledger(at=0)
    ledger.pass_to(10, {"a": 2.0})
    assert ledger.used == {"a": 20.0}


def test_what_was_used_a_day_ago_counts_half() -> None:
    ledger = Ledger(at=0, used={"a": 100.0})
    ledger.pass_to(HALF_LIFE, {})
    assert ledger.used["a"] == pytest.approx(50.0)


def test_runs_of_before_are_remembered_with_their_age() -> None:
    ledger = Ledger(at=HALF_LIFE)
    old = waiting("old", project="a").model_copy(update={"finished_at": 0, "run_seconds": 100})
    new = old.model_copy(update={"finished_at": HALF_LIFE})
    ledger.remember([(old, 2.0), (new, 2.0)])
    assert ledger.used["a"] == pytest.approx(100.0 + 200.0)
