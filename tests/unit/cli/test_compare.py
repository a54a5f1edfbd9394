from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.cli.service import Service
from unit.api.conftest import BASE, World
from unit.cli.conftest import Ask

VERDICT: dict[str, Any] = {
    "object": "fine_tuning.job.verdict",
    "job_id": "ftjob-1",
    "model": "ft:base:acme::1",
    "baseline": "base",
    "outcome": "better",
    "held_out": {"lines": 40, "tokens": 1200},
    "measures": [
        {
            "name": "loss",
            "better": "lower",
            "baseline": {"value": 2.0, "low": 1.5, "high": 2.5},
            "tuned": {"value": 1.0, "low": 0.75, "high": 1.25},
            "difference": {"value": -1.0, "low": -1.5, "high": -0.5},
        }
    ],
    "best_checkpoint": {"step": 6, "name": "ft:base:acme::1:ckpt-step-6"},
    "worse_lines": [{"line": 9, "baseline_loss": 1.0, "tuned_loss": 2.0}],
    "worse_count": 1,
    "answers": [{"line": 3, "question": "2+2?", "wanted": "4", "baseline": "5", "tuned": "four"}],
    "general": [],
    "gate": {"rule": "better", "passed": True, "reason": "The loss fell."},
}


@pytest.fixture
def two(ask: Ask, world: World, tmp_path: Path) -> list[str]:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"{}\n")
    words = ("jobs", "create", str(path), "--model", BASE, "--seed", "1", "--rank")
    found = [ask(*words, rank).stdout.strip() for rank in ("8", "32")]
    for job_id in found:
        world.run(job_id)
    world.finish(found[0])
    return found


def row(shown: str, name: str) -> list[str]:
    return next(line.split()[1:] for line in shown.splitlines() if line.split()[:1] == [name])


def test_jobs_stand_side_by_side_with_what_differs(ask: Ask, two: list[str]) -> None:
    told = ask("jobs", "compare", *two)

    assert told.exit_code == 0, told.output
    assert told.stdout.splitlines()[0].split() == two
    assert row(told.stdout, "status") == ["succeeded", "running"]
    assert row(told.stdout, "steps") == ["10", "10"]
    assert row(told.stdout, "best_valid_loss") == ["0.625", "0.625"]
    assert row(told.stdout, "tuning.adapter.rank") == ["8", "32"]
    assert "\nseed" not in told.stdout


def test_with_json_each_job_has_its_numbers(ask: Ask, two: list[str]) -> None:
    found = json.loads(ask("jobs", "compare", *two, "--json").stdout)["data"]
    assert [each["job"]["id"] for each in found] == two
    assert found[0]["course"]["train_loss"] == 0.5


def test_one_job_is_compared_with_nothing(ask: Ask, two: list[str]) -> None:
    assert ask("jobs", "compare", two[0]).exit_code == 2


def test_a_verdict_is_told_with_its_intervals(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(path: str) -> dict[str, Any]:
        asked.append(path)
        return VERDICT

    monkeypatch.setattr(Service, "get", lambda _, path: answer(path))
    told = ask("jobs", "verdict", "ftjob-1")

    assert asked == ["/fine_tuning/jobs/ftjob-1/verdict"]
    for part in (
        "ft:base:acme::1 is better than base, on 40 held-out lines of 1,200 tokens.",
        "loss     2 (1.5 to 2.5)  1 (0.75 to 1.25)  -1 (-1.5 to -0.5)",
        "step 6: ft:base:acme::1:ckpt-step-6",
        "Lines that became worse: 1, the most so: 9",
        "Line 3: 2+2?\n  wanted    4\n  baseline  5\n  tuned     four",
        "The gate 'better' is passed: The loss fell.",
    ):
        assert part in told.stdout
    assert json.loads(ask("jobs", "verdict", "ftjob-1", "--json").stdout) == VERDICT


def test_a_verdict_that_is_not_there_is_a_refusal(ask: Ask, two: list[str]) -> None:
    refused = ask("jobs", "verdict", two[1])
    assert refused.exit_code == 1
    assert refused.stderr.startswith("tunesmith: ")
