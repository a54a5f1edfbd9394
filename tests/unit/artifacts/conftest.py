"""Every keeper of bytes, for the tests that all of them pass."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from boto3.session import Session
from botocore.loaders import create_loader
from botocore.session import get_session

from s3_server import BUCKET, S3Server, s3_server
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.artifacts.memory import MemoryArtifacts
from tunesmith.artifacts.protocol import Artifacts
from tunesmith.artifacts.s3 import S3Artifacts
from tunesmith.artifacts.timed import TimedArtifacts


@pytest.fixture(scope="session")
def running_server() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


_LOADER = create_loader()


def quick_session() -> Session:
    """A session that reads the descriptions of S3, which take half a second, once for all."""
    own = get_session()
    own.register_component("data_loader", _LOADER)
    return Session(botocore_session=own)


@pytest.fixture
def server(
    running_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[S3Server]:
    """The server, which the environment names, and an empty cache of the node."""
    for name, value in running_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("boto3.session.Session", quick_session)
    yield running_server
    running_server.spoil = lambda _: None


@pytest.fixture
def s3_url(server: S3Server) -> str:
    """A prefix that no other test has."""
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture(params=["local", "memory", "timed", "s3"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    if request.param == "s3":
        return S3Artifacts(request.getfixturevalue("s3_url"))
    if request.param == "memory":
        return MemoryArtifacts()
    local = LocalArtifacts(tmp_path / "data")
    return TimedArtifacts(local) if request.param == "timed" else local
