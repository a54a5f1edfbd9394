"""The API over a real connection, and what listens to its streams."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import uvicorn

from tunesmith.api.app import create_app
from tunesmith.api.streams import EventStreams

if TYPE_CHECKING:
    from unit.api.conftest import World

JOBS = "/v1/fine_tuning/jobs"
STREAM = {"Accept": "text/event-stream"}


class Live:
    """The API behind a real port, with a quick pace."""

    def __init__(self, world: World, streams: EventStreams) -> None:
        self.streams = streams
        app = create_app(world.services)
        app.state.streams = streams
        config = uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=5)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)

    def __enter__(self) -> httpx.Client:
        self.thread.start()
        until(lambda: self.server.started)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)

    def __exit__(self, *_: object) -> None:
        self.streams.close()
        self.server.should_exit = True
        self.thread.join(10)
        assert not self.thread.is_alive(), "the streams keep the server from ending"


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def listening(
    live: httpx.Client, job_id: str, *, to: str = "events", **headers: str
) -> Iterator[Iterator[str]]:
    """Listen to what is told of the job, line by line."""
    with live.stream("GET", f"{JOBS}/{job_id}/{to}", headers=STREAM | headers) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        yield answer.iter_lines()


def frames(lines: Iterator[str], *, most: int = 10_000) -> list[dict[str, str]]:
    """Return the next server-sent events of the stream, up to its end."""
    found: list[dict[str, str]] = []
    fields: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            found.append(fields)
            fields = {}
            if len(found) == most:
                break
    return found
