"""The keeper of bytes that measures another one."""

from __future__ import annotations

import pytest

from tunesmith.artifacts.memory import MemoryArtifacts
from tunesmith.artifacts.timed import SECONDS, TimedArtifacts
from tunesmith.domain.errors import ArtifactMissingError


def calls(operation: str) -> float:
    return next(
        sample.value
        for family in SECONDS.collect()
        for sample in family.samples
        if sample.name.endswith("_count") and sample.labels["operation"] == operation
    )


def test_each_call_is_measured_by_its_name_those_that_fail_too() -> None:
    artifacts = TimedArtifacts(MemoryArtifacts())
    SECONDS.labels("put")
    SECONDS.labels("get")
    puts, gets = calls("put"), calls("get")

    artifacts.put("files/a", b"x")
    assert artifacts.get("files/a") == b"x"
    with pytest.raises(ArtifactMissingError):
        artifacts.get("files/b")

    assert (calls("put"), calls("get")) == (puts + 1, gets + 2)
