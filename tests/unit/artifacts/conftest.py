"""Every keeper of bytes, for the tests that all of them pass."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3_server import BUCKET, S3Server, s3_server
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.artifacts.memory import MemoryArtifacts
from tunesmith.artifacts.protocol import Artifacts
from tunesmith.artifacts.s3 import S3Artifacts


@pytest.fixture(scope="session")
def running_server() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def server(
    running_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[S3Server]:
    """The server, which the environment names, and an empty cache of the node."""
    for name, value in running_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield running_server
    running_server.spoil = lambda _: None


@pytest.fixture
def s3_url(server: S3Server) -> str:
    """A prefix that no other test has."""
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture(params=["local", "memory", "s3"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    if request.param == "s3":
        return S3Artifacts(request.getfixturevalue("s3_url"))
    return LocalArtifacts(tmp_path / "data") if request.param == "local" else MemoryArtifacts()
