"""Trace each request of the API, as a part of the client's own trace where it names one."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith.api.metrics import route_of
from tunesmith.tracing import is_traced, span

_UNTRACED = frozenset({"/health", "/ready", "/metrics"})
"""What is asked every few seconds by those who watch."""


class Traced:
    """ASGI middleware with a span for each request; it stands within `RequestIds`."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand before `app`."""
        self._app = app

    # ASGI servers pass all three by position.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: PLR0917
        """Pass the request on, and its answer back."""
        if scope["type"] != "http" or not is_traced() or scope["path"] in _UNTRACED:
            await self._app(scope, receive, send)
            return
        method, given = scope["method"], Headers(scope=scope).get("traceparent")
        with span(method, parent=given, request_id=scope["state"]["request_id"]) as found:

            async def send_noting(message: Message) -> None:
                if message["type"] == "http.response.start":
                    found.rename(f"{method} {route_of(scope)}")
                    found.note(**{"http.response.status_code": message["status"]})
                await send(message)

            await self._app(scope, receive, send_noting)
