"""Give each request an id, which its answer and each of its log lines carry, and log it."""

from __future__ import annotations

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith.domain.log_context import mark_logs

HEADER = "X-Request-Id"
"""Name of the header, as OpenAI's clients read it. An id that a request brings is not taken."""

CLIENT_HEADER = "X-Client-Request-Id"
"""Name of the header with the client's own id, as with OpenAI; it goes into the log alone."""

_CLIENT_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""What a client's id may be, so that nobody writes log lines of their own."""

_log = logging.getLogger(__name__)


class RequestIds:
    """ASGI middleware that adds the header; `request.state.request_id` holds the id.

    What is added to `request.state.log_fields` is named in the request's log lines too.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Stand before `app`."""
        self._app = app

    # ASGI servers pass all three by position.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: PLR0917
        """Pass the request on, and its answer back with the header."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{uuid.uuid4().hex}"
        # Each request is a task of its own, so the mark need not be taken back, and the handler
        # of the last resort, which stands before this middleware, logs with it.
        fields = mark_logs(request=request_id, **_client_id(scope))
        scope.setdefault("state", {}).update(request_id=request_id, log_fields=fields)
        began, status = time.monotonic(), 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            taken = 1000 * (time.monotonic() - began)
            # Without the query: people put there what belongs into headers.
            _log.info("%s %r %d %.0f ms", scope["method"], scope["path"], status, taken)


def _client_id(scope: Scope) -> dict[str, str]:
    given = Headers(scope=scope).get(CLIENT_HEADER, "")
    return {"client": given} if _CLIENT_ID.fullmatch(given) else {}
