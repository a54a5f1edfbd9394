from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunesmith.cli import estimate
from tunesmith.domain.estimates import EstimateStatus, Measurement
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.jobs import JobError
from unit.api.conftest import BASE, World
from unit.cli.conftest import Ask

FOUND = Measurement(
    peak_memory=3 * 2**30,
    step_seconds=2.0,
    longest_step_seconds=4.0,
    steps=90,
    startup_seconds=10.0,
)


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"{}\n")
    return ["estimate", str(path), "--model", BASE]


def ends(world: World, monkeypatch: pytest.MonkeyPatch, **change: object) -> None:
    """Let the estimate end while the command waits for it."""

    def wait(_: float) -> None:
        [seen] = world.store.open_estimates()
        world.store.change_estimate(seen, seen.model_copy(update={"finished_at": 9, **change}))

    monkeypatch.setattr("tunesmith.cli.estimate.time.sleep", wait)


def test_it_waits_for_the_measurement_and_shows_it(
    ask: Ask, words: list[str], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends(world, monkeypatch, status=EstimateStatus.SUCCEEDED, measurement=FOUND)
    told = ask(*words)
    assert told.exit_code == 0, told.output
    assert "It fits: 3.0 GiB of memory at the most." in told.stdout
    assert "90 steps of 2.00 s, the longest 4.00 s." in told.stdout
    assert "From the start of training to its end: " in told.stdout


def test_what_does_not_fit_shows_the_change_as_options(
    ask: Ask, words: list[str], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = JobError(
        code=FailureCode.OUT_OF_MEMORY, message="Too large.", change={"max_length": 64}
    )
    ends(world, monkeypatch, status=EstimateStatus.FAILED, error=error)
    told = ask(*words)
    assert told.exit_code == 4
    assert told.stdout == "Too large. (out_of_memory)\n--set tuning.max_length=64\n"


def test_with_json_the_estimate_stands_alone(
    ask: Ask, words: list[str], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends(world, monkeypatch, status=EstimateStatus.SUCCEEDED, measurement=FOUND)
    assert json.loads(ask(*words, "--json").stdout)["status"] == "succeeded"


def test_a_change_is_told_field_by_field() -> None:
    change = {"tuning": {"max_length": 64, "adapter": {"kind": "qlora"}}}
    assert estimate._flat(change) == [("tuning.max_length", 64), ("tuning.adapter.kind", "qlora")]
