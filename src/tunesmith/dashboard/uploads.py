"""Takes files from the browser and hands them on to the API under the visitor's key."""

from __future__ import annotations

import tempfile

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from tunesmith.dashboard.door import RefusedError
from tunesmith.dashboard.frame import Site

_IN_MEMORY = 1024 * 1024
"""Bytes of an upload that are held before it goes to a file."""


def add_routes(app: FastAPI, site: Site) -> None:
    """Add `/files/upload` to the page."""

    @app.post("/files/upload", include_in_schema=False)
    async def upload(request: Request, name: str) -> JSONResponse:
        # A form of another site cannot send this header.
        if request.headers.get("x-tunesmith-page") != "1":
            return JSONResponse({"message": "Uploads come from the page alone."}, 403)
        door = site.sessions.door()
        try:
            # Who may not upload is told so before the file has come.
            await door.get("/files", limit=1)
            with tempfile.SpooledTemporaryFile(_IN_MEMORY) as content:
                async for chunk in request.stream():
                    content.write(chunk)
                content.seek(0)
                file = await door.upload(name, content)
        except RefusedError as refused:
            return JSONResponse({"message": refused.message}, refused.status or 503)
        return JSONResponse({"id": file["id"]})
