"""Takes files from the browser and hands them on to the API under the visitor's key."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import IO

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from tunesmith.dashboard.door import RefusedError
from tunesmith.dashboard.frame import Site
from tunesmith.domain.disk import disk_is_full

_IN_MEMORY = 1024 * 1024
"""Bytes of an upload that are held before they go to a file."""


def add_routes(app: FastAPI, site: Site) -> None:
    """Add `/files/upload` to the page."""

    @app.post("/files/upload", include_in_schema=False)
    async def upload(request: Request, name: str) -> JSONResponse:
        # A form of another site cannot send this header.
        if request.headers.get("x-tunesmith-page") != "1":
            return JSONResponse({"message": "Uploads come from the page alone."}, 403)
        door = site.sessions.door()
        most = site.max_upload_bytes
        try:
            # Who may not upload is told so before the file has come.
            await door.get("/files", limit=1)
            _refuse_over(_announced(request), most=most)
            async with _spooled() as content:
                await keep(request.stream(), content, most=most)
                await asyncio.to_thread(content.seek, 0)
                file = await door.upload(name, content)
        except RefusedError as refused:
            return JSONResponse({"message": refused.message}, refused.status or 503)
        except OSError as error:
            if not disk_is_full(error):
                raise
            message = "The service's disk is full. Delete what is not needed, and upload it again."
            return JSONResponse({"message": message}, 507)
        return JSONResponse({"id": file["id"]})


@asynccontextmanager
async def _spooled() -> AsyncIterator[IO[bytes]]:
    """Yield an empty file without a name. A disk takes its time to make it and to free it."""
    content = await asyncio.to_thread(tempfile.TemporaryFile)
    try:
        yield content
    finally:
        await asyncio.to_thread(content.close)


async def keep(pieces: AsyncIterator[bytes], content: IO[bytes], *, most: int) -> None:
    """Write `pieces` to `content` as they come, while others are answered.

    Raises `RefusedError` once they are more than `most` bytes, which are not written.
    """
    held, size = bytearray(), 0
    async for piece in pieces:
        size += len(piece)
        _refuse_over(size, most=most)
        held += piece
        if len(held) >= _IN_MEMORY:
            await asyncio.to_thread(content.write, bytes(held))
            held.clear()
    await asyncio.to_thread(content.write, bytes(held))


def _announced(request: Request) -> int:
    """Return the bytes that the browser says it will send; 0 where it does not say."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0


def _refuse_over(size: int, *, most: int) -> None:
    if size > most:
        raise RefusedError(
            f"The file is larger than the {most:,} bytes that the service takes at once. "
            "`tunesmith files upload` sends a larger one in parts.",
            status=413,
        )
