"""What the browser uploads is kept as it comes, and no more of it than the service takes."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request

from tunesmith.dashboard.door import Door, RefusedError
from tunesmith.dashboard.uploads import keep


class Watched(BytesIO):
    """A file that knows which threads wrote to it."""

    threads: set[int]

    def write(self, data: Any, /) -> int:
        self.threads = {*getattr(self, "threads", ()), threading.get_ident()}
        return super().write(data)


async def pieces(count: int, size: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number % 256]) * size


def test_pieces_are_kept_in_order_by_other_threads() -> None:
    content = Watched()

    asyncio.run(keep(pieces(100, 40_000), content, most=4_000_000))

    assert content.getvalue() == b"".join(bytes([n]) * 40_000 for n in range(100))
    assert threading.get_ident() not in content.threads


def test_what_is_too_large_is_refused_before_it_is_written() -> None:
    content = BytesIO()

    with pytest.raises(RefusedError) as refused:
        asyncio.run(keep(pieces(1_000_000, 40_000), content, most=3_000_000))

    assert refused.value.status == 413
    assert "3,000,000 bytes" in refused.value.message
    assert len(content.getvalue()) <= 3_000_000


class Api:
    """An API that takes files, and answers whatever else it is asked."""

    def __init__(self) -> None:
        self.form = b""
        self.app = FastAPI()
        self.app.add_api_route("/v1/files", self.take, methods=["POST"])
        self.app.add_api_route("/v1/models", lambda: {"object": "list", "data": []})

    async def take(self, request: Request) -> dict[str, str]:
        self.form = await request.body()
        return {"id": "file-1", "object": "file"}


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """The address under which `app` is served meanwhile."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


class Slow(BytesIO):
    """A file on a disk that gives nothing until something else was answered."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.asked = threading.Event()
        self.other_answered = threading.Event()
        self.waited_in_vain = False
        self.largest = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.asked.set()
        self.waited_in_vain |= not self.other_answered.wait(20)
        piece = super().read(size)
        self.largest = max(self.largest, len(piece))
        return piece


def test_others_are_answered_while_a_slow_disk_is_read() -> None:
    api, content = Api(), Slow(b"0123456789" * 400_000)

    async def both(address: str) -> tuple[dict[str, Any], dict[str, Any]]:
        door = Door(address)
        uploading = asyncio.create_task(door.upload("rows.jsonl", content))
        await asyncio.to_thread(content.asked.wait, 20)
        models = await door.get("/models")
        content.other_answered.set()
        file = await uploading
        await door.close()
        return models, file

    with running(api.app) as address:
        models, file = asyncio.run(both(address))

    assert models["data"] == []
    assert file["id"] == "file-1"
    assert not content.waited_in_vain
    assert content.getvalue() in api.form
    # The file is never held as a whole.
    assert content.largest <= 100_000
