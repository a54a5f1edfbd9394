"""Hands files of the API to the browser, which has no key of its own to ask for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse

from tunesmith.dashboard.door import RefusedError, quoted
from tunesmith.dashboard.frame import Site

_PASSED_ON = ("content-length", "content-disposition")


def add_routes(app: FastAPI, site: Site) -> None:
    """Add the paths below `/download/` to the page."""

    @app.get("/download/files/{file_id}", include_in_schema=False)
    async def file(request: Request, file_id: str) -> Response:
        return await _passed_on(
            site, request, path=f"/files/{quoted(file_id)}/content", name=file_id
        )

    @app.get("/download/files/{file_id}/diff", include_in_schema=False)
    async def diff(request: Request, file_id: str) -> Response:
        path = f"/files/{quoted(file_id)}/repair/diff"
        return await _passed_on(site, request, path=path, name=f"{file_id}.diff")

    @app.get("/download/jobs/{job_id}/receipt", include_in_schema=False)
    async def receipt(request: Request, job_id: str) -> Response:
        path = f"/fine_tuning/jobs/{quoted(job_id)}/receipt?format=jsonl"
        return await _passed_on(site, request, path=path, name=f"receipt-{job_id}.jsonl")

    @app.get("/download/exports/{export_id}", include_in_schema=False)
    async def export(request: Request, export_id: str) -> Response:
        path = f"/exports/{quoted(export_id)}/content"
        return await _passed_on(site, request, path=path, name=export_id)

    @app.get("/download/exports/{export_id}/{name:path}", include_in_schema=False)
    async def export_file(request: Request, *, export_id: str, name: str) -> Response:
        path = f"/exports/{quoted(export_id)}/content/{quote(name)}"
        return await _passed_on(site, request, path=path, name=name.rpartition("/")[2])


async def _passed_on(site: Site, request: Request, *, path: str, name: str) -> Response:
    """Return what the API has at `path`, piece by piece, to be kept and never to be shown."""
    stack = AsyncExitStack()
    try:
        stream = await stack.enter_async_context(site.sessions.door().opened(path))
    except RefusedError as refused:
        if refused.needs_key:
            return RedirectResponse(f"/sign-in?next={quote(request.url.path)}", 303)
        return PlainTextResponse(refused.message, refused.status or 503)
    headers = {key: stream.headers[key] for key in _PASSED_ON if key in stream.headers}
    headers.setdefault("content-disposition", f"attachment; filename*=utf-8''{quote(name)}")
    headers["cache-control"] = "no-store"

    async def pieces() -> AsyncIterator[bytes]:
        async with stack:
            async for piece in stream.iter_bytes():
                yield piece

    return StreamingResponse(pieces(), headers=headers, media_type="application/octet-stream")
