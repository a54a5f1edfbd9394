"""Of several processes with one folder, only the one that leads has a hand on the head."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tunesmith.cluster.local_head import LocalRay
from tunesmith.domain.errors import ClusterUnavailableError


def test_who_does_not_lead_starts_and_ends_no_head(tmp_path: Path) -> None:
    ray = LocalRay(tmp_path / "ray", leads=lambda: False)
    ray.start()
    deadline = time.monotonic() + 20
    while "Another controller leads" not in reason(ray):
        assert time.monotonic() < deadline
        time.sleep(0.01)

    with pytest.raises(ClusterUnavailableError, match="Another controller leads"):
        ray.shutdown()

    assert not (tmp_path / "ray" / "head.json").exists()


def reason(ray: LocalRay) -> str:
    with pytest.raises(ClusterUnavailableError) as refused:
        ray.resources()
    return refused.value.message
