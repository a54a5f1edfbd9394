"""The API behind the server that `tunesmith serve` uses, on a port of its own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn

from tunesmith.api.app import create_app
from tunesmith.api.checks import FileChecks
from tunesmith.api.services import Services
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.cluster.fake_answering import FakeAnswering
from tunesmith.domain.clock import SystemClock
from tunesmith.store.sql import SqlStore

LIMIT = 1_000_000
"""The largest upload that the server takes, in bytes."""


@dataclass(frozen=True)
class Live:
    """A server that runs."""

    port: int
    data: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def stored(self) -> list[Path]:
        """Return all files that artifacts has, finished or not."""
        return [path for path in (self.data / "artifacts").rglob("*") if path.is_file()]


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    store = SqlStore.open(f"sqlite:///{tmp_path}/tunesmith.db", SystemClock())
    services = Services(
        answering=FakeAnswering(),
        store=store,
        artifacts=LocalArtifacts(tmp_path / "artifacts"),
        catalogue={},
        organization="acme",
        clock=SystemClock(),
        max_upload_bytes=LIMIT,
        version="9.9",
        checks=FileChecks(lambda _: Path("/models"), workers=1),
        open_without_keys=True,
    )
    server = uvicorn.Server(uvicorn.Config(create_app(services), log_config=None))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield Live(listener.getsockname()[1], tmp_path)
        finally:
            server.should_exit = True
            thread.join()
    store.close()
