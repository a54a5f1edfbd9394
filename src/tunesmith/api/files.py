"""`/v1/files`: upload, list, retrieve, download and delete files, in both dialects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, BinaryIO, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from tunesmith.api.answers import WireRoute
from tunesmith.api.body import UploadBody
from tunesmith.api.openapi import BYTES, UPLOAD_FORM
from tunesmith.api.services import Serviced
from tunesmith.domain.errors import ArtifactMissingError, NotFoundError
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.ids import new_file_id
from tunesmith.protocol.files import FileDeleted, FileList, FileObject, FilePurpose

router = APIRouter(route_class=WireRoute, prefix="/v1/files", tags=["files"])
"""The routes of this resource."""

_CHUNK = 1024 * 1024
"""Bytes that are held at a time."""


@router.post("", openapi_extra=UPLOAD_FORM)
def create_file(services: Serviced, upload: UploadBody) -> FileObject:
    """Upload a file: a form with the parts `file`, `purpose` and, if it is to expire, when."""
    content, now, life = upload.content, services.now(), upload.expires_after
    file = File(
        id=new_file_id(),
        filename=upload.filename,
        purpose=upload.purpose,
        bytes=content.bytes,
        sha256=content.sha256,
        created_at=now,
        key=content.key,
        expires_at=life and now + life,
    )
    with content.in_place(services.artifacts):
        services.store.add_file(file)
    return FileObject.to_wire(file)


@router.get("")
def list_files(
    services: Serviced,
    *,
    purpose: FilePurpose | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
) -> FileList:
    """List files by their time of creation, newest first by default."""
    page = services.store.list_files(
        purpose=Purpose(purpose) if purpose else None, after=after, limit=limit, order=order
    )
    return FileList.to_wire(page)


@router.get("/{file_id}")
def retrieve_file(services: Serviced, file_id: str) -> FileObject:
    """Retrieve a file's description."""
    return FileObject.to_wire(services.store.file(file_id))


@router.delete("/{file_id}")
def delete_file(services: Serviced, file_id: str) -> FileDeleted:
    """Delete a file, unless an unfinished job needs it."""
    file = services.store.deletable_file(file_id)
    # The sweep finds bytes that are left behind; a row without bytes would be a broken file.
    with services.artifacts.locked(file.key):
        if not services.store.delete_file(file_id):
            services.artifacts.delete(file.key)
    return FileDeleted(id=file.id)


@router.get("/{file_id}/content", response_class=StreamingResponse, responses=BYTES)
def download_file(services: Serviced, file_id: str) -> StreamingResponse:
    """Download a file's content."""
    file = services.store.file(file_id)
    try:
        stream = services.artifacts.open(file.key)
    except ArtifactMissingError:
        raise NotFoundError(
            f"The content of file '{file.id}' is not there any more. Delete the file, and upload "
            "it again if it is needed.",
            param="file_id",
        ) from None
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}",
        "Content-Length": str(file.bytes),
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(chunks(stream), media_type="application/octet-stream", headers=headers)


def chunks(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the stream's chunks of up to 1 MiB and close it at the end."""
    with stream:
        while chunk := stream.read(_CHUNK):
            yield chunk
