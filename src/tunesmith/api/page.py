"""Where the page stands among the API's routes, and what stands before it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith.api.access import Doorkeeper
from tunesmith.domain.errors import UserError

OWN = frozenset(
    {
        "",
        "_nicegui",
        "_nicegui_ws",
        "assets",
        "compare",
        "download",
        "favicon.ico",
        "files",
        "jobs",
        "models",
        "new",
        "playground",
        "sign-in",
        "sign-out",
    }
)
"""What the paths of the page begin with; all others are the API's."""

_POLICY = "; ".join(
    (
        "default-src 'self'",
        # The page's own framework makes functions of the templates that come with it.
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "connect-src 'self' ws: wss:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""What a browser may load for the page: what this service itself gives, and nothing else."""

HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of each answer of the page."""

ABSENT = (
    "This install of Tunesmith has no page; its API is at /v1, and shown at /docs. "
    "Install 'tunesmith[dashboard]' and start the service again to have the page here.\n"
)
"""What stands at `/` without the page."""


class Page(Protocol):
    """The page, an ASGI application with a life of its own."""

    async def warm(self) -> None:
        """Make ready for the first visitor."""

    async def close(self) -> None:
        """End."""

    # ASGI servers pass all three by position.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: PLR0917
        """Answer a request."""


def mount_page(app: Starlette, page: Page | None) -> None:
    """Let `page` answer the paths that are its own; without one, `/` says so.

    It is warmed once `app` has started, beside the first requests.
    """
    app.router.routes.append(_PageMount(page or _say_absent))
    if page is None:
        return
    life = app.router.lifespan_context

    @asynccontextmanager
    async def with_page(started: Any) -> AsyncIterator[Any]:
        async with life(started) as state:
            warming = asyncio.create_task(page.warm())
            yield state
            warming.cancel()
            await page.close()

    app.router.lifespan_context = with_page


class _PageMount(Mount):
    """A mount of some paths only, so that the API still answers for all others."""

    def __init__(self, page: ASGIApp) -> None:
        super().__init__("", app=_Guarded(page))

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] not in ("http", "websocket"):
            return Match.NONE, {}
        if scope["path"].split("/")[1] not in OWN:
            return Match.NONE, {}
        return super().matches(scope)


class _Guarded:
    """Refuses who visits a service without keys from another machine's page."""

    def __init__(self, page: ASGIApp) -> None:
        self._page = page

    # ASGI servers pass all three by position.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: PLR0917
        doorkeeper: Doorkeeper = scope["app"].state.doorkeeper
        try:
            await doorkeeper.check_visitor(Headers(scope=scope))
        except UserError as error:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await PlainTextResponse(error.message, status_code=403)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._page(scope, receive, send_with_headers)


# ASGI servers pass all three by position.
async def _say_absent(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: PLR0917
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
        return
    await PlainTextResponse(ABSENT, status_code=501)(scope, receive, send)
