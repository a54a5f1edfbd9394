"""A long body that is answered early is read on and dropped, until the client has seen it."""

from __future__ import annotations

import asyncio

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from tunesmith.api import lingering
from tunesmith.api.lingering import Lingering


class Exchange:
    """A request in chunks, and what was sent at which of them."""

    def __init__(self, chunks: int, *, length: bytes | None) -> None:
        headers = [(b"content-length", length)] if length else [(b"transfer-encoding", b"chunked")]
        self.scope: Scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
        self.left = chunks
        self.sent: list[tuple[str, int]] = []
        self.headers: dict[bytes, bytes] = {}

    async def receive(self) -> Message:
        if not self.left:
            # The client waits for its answer's end, and the server for another request.
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        self.left -= 1
        return {"type": "http.request", "body": b"x" * 10, "more_body": self.left > 0}

    async def send(self, message: Message) -> None:
        self.headers |= dict(message.get("headers", ()))
        is_last = message["type"] == "http.response.body" and not message.get("more_body")
        self.sent.append(("end" if is_last else message["type"], self.left))

    def run(self, *, read: int) -> None:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            for _ in range(read):
                await receive()
            await PlainTextResponse("no", 413)(scope, receive, send)

        asyncio.run(Lingering(answer)(self.scope, self.receive, self.send))


@pytest.mark.parametrize("length", [b"1000000", None])
def test_the_answer_goes_out_at_once_and_ends_behind_the_body(length: bytes | None) -> None:
    exchange = Exchange(9, length=length)
    exchange.run(read=2)
    assert exchange.sent == [
        ("http.response.start", 7),
        ("http.response.body", 7),
        ("end", 0),
    ]
    assert exchange.headers[b"connection"] == b"close"


def test_a_client_that_sends_on_and_on_is_left_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lingering, "PATIENCE", 0.01)
    exchange = Exchange(10**9, length=None)
    exchange.run(read=1)
    assert exchange.sent[-1][0] == "end"
    assert exchange.left > 0


@pytest.mark.parametrize(("length", "read"), [(b"1000000", 9), (b"65536", 0)])
def test_a_body_that_is_whole_or_short_keeps_its_connection(length: bytes, read: int) -> None:
    exchange = Exchange(9, length=length)
    exchange.run(read=read)
    assert exchange.sent == [("http.response.start", 9 - read), ("end", 9 - read)]
    assert b"connection" not in exchange.headers
