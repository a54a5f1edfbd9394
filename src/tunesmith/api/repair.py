"""`/v1/files/{file_id}/repair`: a repaired copy of a file, and how it differs."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, BinaryIO
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse

from tunesmith.api.answers import WireRoute
from tunesmith.api.content import Content
from tunesmith.api.files import chunks
from tunesmith.api.openapi import DIFF
from tunesmith.api.services import Serviced, Services
from tunesmith.api.validation import open_content, while_connected
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.ids import new_file_id
from tunesmith.domain.repair import repaired_name
from tunesmith.protocol.repair import FileRepair

router = APIRouter(route_class=WireRoute, prefix="/v1/files", tags=["files"])
"""The routes of this resource."""


@dataclass(frozen=True)
class Original:
    """The file of a request."""

    file: File
    """Its description."""
    content: BinaryIO
    """Its bytes."""


def _opened(services: Serviced, file_id: str) -> Iterator[Original]:
    file = services.store.file(file_id)
    with open_content(services, file_id, param="file_id") as content:
        yield Original(file, content)


Opened = Annotated[Original, Depends(_opened)]
"""A handler's parameter that receives the file in the path."""


@router.post("/{file_id}/repair")
async def repair_file(services: Serviced, request: Request, *, original: Opened) -> FileRepair:
    """Make a copy of a file, mended where that needs no judgement; the original stays."""
    await asyncio.to_thread(services.disk.check, original.file.bytes)
    async with _aside(services) as copy:
        work = asyncio.ensure_future(services.checks.repair(original.content, copy))
        report = await while_connected(request, work)
        made = None
        if report.mended:
            made = await asyncio.to_thread(_add, services, original.file, copy=copy)
    return FileRepair.to_wire(report, original=original.file.id, copy=made)


@router.get("/{file_id}/repair/diff", response_class=StreamingResponse, responses=DIFF)
async def download_repair_diff(
    services: Serviced, request: Request, *, original: Opened
) -> StreamingResponse:
    """Download the unified diff of a file and its repaired copy, which need not be made before."""
    async with AsyncExitStack() as undo:
        diff = await asyncio.to_thread(_new_aside, services)
        undo.push_async_callback(asyncio.to_thread, diff.close)
        async with _aside(services) as copy:
            work = asyncio.ensure_future(services.checks.repair(original.content, copy, diff=diff))
            report = await while_connected(request, work)
        diff.seek(0)
        undo.pop_all()
    head = _names(original.file) if report.mended else b""
    name = quote(repaired_name(original.file.filename, ending=".diff"), safe="")
    return StreamingResponse(
        _led_by(head, diff),
        media_type="text/x-diff",
        headers={
            "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
            "X-Content-Type-Options": "nosniff",
        },
    )


@asynccontextmanager
async def _aside(services: Services) -> AsyncIterator[BinaryIO]:
    """Yield an empty file on the disk of the artifacts, which is gone when it is closed.

    A disk takes its time to make it and to free it.
    """
    file = await asyncio.to_thread(_new_aside, services)
    try:
        yield file
    finally:
        await asyncio.to_thread(file.close)


def _new_aside(services: Services) -> BinaryIO:
    with services.artifacts.scratch() as folder:
        # Its name goes with the folder; open, it lives on.
        return tempfile.TemporaryFile(dir=folder)


def _add(services: Services, original: File, *, copy: BinaryIO) -> File:
    """Store `copy` as a training file of its own, named after the original."""
    copy.seek(0)
    with services.artifacts.writer() as writer:
        content = Content(writer)
        for chunk in chunks(copy):
            content.write(chunk)
        file = File(
            id=new_file_id(),
            filename=repaired_name(original.filename),
            purpose=Purpose.FINE_TUNE,
            bytes=content.bytes,
            sha256=content.sha256,
            created_at=services.now(),
            key=content.key,
        )
        with content.in_place(services.artifacts):
            services.store.add_file(file)
    return file


def _names(file: File) -> bytes:
    """Return the lines of a unified diff that name the two files."""
    return f"--- {file.filename}\n+++ {repaired_name(file.filename)}\n".encode()


def _led_by(head: bytes, stream: BinaryIO) -> Iterator[bytes]:
    yield head
    yield from chunks(stream)
