"""Write a handler's wire object straight into its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

from fastapi.responses import Response
from fastapi.routing import APIRoute

from tunesmith.protocol.wire import Wire


class WireRoute(APIRoute):
    """A route whose handler's wire object is serialised as it is.

    The framework would validate it a second time.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Take what `APIRoute` takes."""
        super().__init__(path, _writing(endpoint), **options)


def _writing(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    if iscoroutinefunction(endpoint):

        @wraps(endpoint)
        async def answer_later(*given: Any, **named: Any) -> Any:
            return _written(await endpoint(*given, **named), named)

        return answer_later

    @wraps(endpoint)
    def answer(*given: Any, **named: Any) -> Any:
        return _written(endpoint(*given, **named), named)

    return answer


def _written(result: Any, named: Mapping[str, Any]) -> Any:
    """Return the answer, with the headers that the handler set on a `Response` among its own."""
    if not isinstance(result, Wire):
        return result
    content = result.model_dump_json(by_alias=True)
    written = Response(content, media_type="application/json")
    for own in named.values():
        if isinstance(own, Response):
            written.headers.update(own.headers)
    return written
