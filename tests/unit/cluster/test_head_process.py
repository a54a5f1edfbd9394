"""The command that a head is launched with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunesmith.cluster.head_process import HeadFolder


def flags(folder: Path, *, host: str = "127.0.0.1") -> dict[str, str]:
    """Return the options of the command; what it starts is the business of other tests."""
    command = HeadFolder(folder)._command((host, 8265), 20_001)
    return dict(word.removeprefix("--").split("=") for word in command if "=" in word)


def test_the_dashboard_is_where_it_was_asked_for(tmp_path: Path) -> None:
    found = flags(tmp_path, host="0.0.0.0")

    assert (found["dashboard-host"], found["dashboard-port"]) == ("0.0.0.0", "8265")


def test_ray_counts_the_processors_that_it_may_run_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    assert flags(tmp_path)["num-cpus"] == "3"

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert "num-cpus" not in flags(tmp_path)
