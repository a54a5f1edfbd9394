"""The page as one ASGI application that is made once the API is up, so that the API need not wait.

What draws pages takes a second to import; a thread does it meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class LatePage:
    """Makes the page upon the first request for it, or when it is warmed before."""

    def __init__(self, address: Callable[[], str], *, folder: Path, max_upload_bytes: int) -> None:
        """Import nothing yet.

        `address` tells where the service is reached, `http://127.0.0.1:8015`; `folder` keeps what
        signs the visitors' cookies; the service takes files of at most `max_upload_bytes`.
        """
        self._address = address
        self._folder = folder
        self._max_upload_bytes = max_upload_bytes
        self._making: asyncio.Task[ASGIApp] | None = None
        self._leaving = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    async def warm(self) -> None:
        """Make the page, and wait until it is there."""
        await self._made()

    async def close(self) -> None:
        """Let the page end, where it was made."""
        self._leaving.set()
        if self._life is not None:
            await self._life

    # ASGI servers pass all three by position.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: PLR0917
        """Answer with the page."""
        page = await self._made()
        await page(scope, receive, send)

    async def _made(self) -> ASGIApp:
        if self._making is None:
            self._making = asyncio.create_task(self._make())
        return await asyncio.shield(self._making)

    async def _make(self) -> ASGIApp:
        page: ASGIApp = await anyio.to_thread.run_sync(self._import)
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._life = asyncio.create_task(self._live(page, started))
        await started
        return page

    def _import(self) -> ASGIApp:
        site = import_module("tunesmith.dashboard.site")
        page: ASGIApp = site.make_page(
            self._address(), folder=self._folder, max_upload_bytes=self._max_upload_bytes
        )
        return page

    async def _live(self, page: ASGIApp, started: asyncio.Future[None]) -> None:
        """Tell `page` of its start and its end, as the server of an application does."""
        told = iter(("lifespan.startup", "lifespan.shutdown"))

        async def receive() -> Message:
            kind = next(told)
            if kind == "lifespan.shutdown":
                await self._leaving.wait()
            return {"type": kind}

        async def send(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                started.set_result(None)
            elif message["type"] == "lifespan.startup.failed":
                started.set_exception(RuntimeError(message.get("message", "")))

        await page({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
