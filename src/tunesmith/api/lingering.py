"""End a connection well whose request is answered before all of its body has come.

A server that closes a connection with bytes in it that nobody has read resets it, and the client,
which is still sending, may never see the answer. So the answer says that the connection ends
here, and for a while what comes is read and dropped, until the client has seen it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATIENCE = 30.0
"""Seconds for which a client may go on sending behind its answer."""

_SHORT = 64 * 1024
"""Bytes of a body that the server reads to its end in any case."""


class Lingering:
    """ASGI middleware that ends such connections."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand before `app`."""
        self._app = app

    # ASGI servers pass all three by position.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: PLR0917
        """Pass the request on, and its answer back."""
        if scope["type"] == "http" and _may_be_long(Headers(scope=scope)):
            exchange = _Exchange(receive, send)
            await self._app(scope, exchange.receive, exchange.send)
        else:
            await self._app(scope, receive, send)


def _may_be_long(headers: Headers) -> bool:
    length = headers.get("content-length", "")
    return int(length) > _SHORT if length.isdecimal() else "transfer-encoding" in headers


class _Exchange:
    """A request with a long body, and its answer."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._all_came = False
        self._is_early = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            self._all_came = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._is_early = not self._all_came
            if self._is_early:
                MutableHeaders(scope=message)["Connection"] = "close"
        elif self._is_early and not message.get("more_body"):
            # The server closes the connection behind the last message, so that one waits.
            await self._send({**message, "more_body": True})
            await self._drop_rest()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _drop_rest(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while not self._all_came:
                    await self.receive()
