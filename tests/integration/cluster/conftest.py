"""Heads of real Rays, each of which is ended with the test (or the session) that asked for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tunesmith.cluster.head_process import HeadFolder
from tunesmith.cluster.local_head import LocalRay
from tunesmith.cluster.protocol import Cluster
from tunesmith.domain.errors import ClusterUnavailableError

LIMIT = 60.0
"""Seconds that anything here may take."""


def await_true(condition: Callable[[], object], *, limit: float = LIMIT) -> None:
    """Return as soon as `condition` holds; fail after `limit` seconds."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def answers(cluster: Cluster) -> bool:
    """Tell whether the cluster is available."""
    try:
        cluster.resources()
    except ClusterUnavailableError:
        return False
    return True


def has_ended(process: psutil.Process) -> bool:
    """Tell whether a process has ended, collected or not."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the head that all tests share which leave it alive."""
    return tmp_path_factory.mktemp("shared") / "ray"


@pytest.fixture(scope="session")
def shared_head(shared_folder: Path) -> Iterator[LocalRay]:
    """A head that is ready."""
    head = LocalRay(shared_folder)
    head.start()
    try:
        await_true(lambda: answers(head))
        yield head
    finally:
        head.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for a head of the test's own."""
    path = tmp_path / "ray"
    yield path
    HeadFolder(path).end()
