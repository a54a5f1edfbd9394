"""A short form of `make chaos`: whatever is killed whenever, nothing shows of it in the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.chaos import chaos
from e2e.conftest import new_data

RUNS = 2
KILLS = 3


# A run is patient with a busy machine: its bound alone is three minutes.
@pytest.mark.timeout(900)
def test_three_kills_at_random_moments_leave_no_trace(tmp_path: Path, tiny_model: Path) -> None:
    with chaos(new_data(tmp_path, tiny_model), seed=1) as town:
        assert town.leave_alone().faultless
        for run in range(1, RUNS + 1):
            report = town.disturb(run, kills=KILLS)
            assert report.faultless, report
            assert len(report.kills) == KILLS
