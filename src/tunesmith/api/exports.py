"""`/v1/exports`: take a tuned model away, as files that other programs load."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from starlette.responses import Response

from tunesmith.api.answers import WireRoute
from tunesmith.api.body import JsonBody
from tunesmith.api.openapi import BYTES, json_body
from tunesmith.api.ranges import answer_part, archive
from tunesmith.api.services import Serviced, Services
from tunesmith.artifacts.exports import ExportDirectory
from tunesmith.domain.errors import ConflictError, InvalidRequestError, NotFoundError
from tunesmith.domain.exports import Export, ExportStatus
from tunesmith.domain.ids import new_export_id
from tunesmith.protocol.exports import CreateExport, ExportDeleted, ExportList, ExportObject
from tunesmith.protocol.reading import read_shape

router = APIRouter(route_class=WireRoute, prefix="/v1/exports", tags=["models"])
"""The routes of this resource."""


@router.post("", openapi_extra=json_body(CreateExport))
def create_export(services: Serviced, body: JsonBody) -> ExportObject:
    """Make files of a tuned model, which are compared with it before they are handed out.

    The answer is at first `queued`; ask for it again until it has ended.
    """
    asked = read_shape(CreateExport, body)
    if asked.model in services.catalogue:
        raise InvalidRequestError(
            f"'{asked.model}' is a base model; name a model or checkpoint that was tuned here.",
            param="model",
        )
    services.disk.check()
    folder = services.push_folder
    push = asked.to_push(folder=folder and folder / services.project, owner=services.push_hub_owner)
    export = Export(
        id=new_export_id(),
        created_at=services.now(),
        model=asked.model,
        job_id="",
        key="",
        format=asked.to_format(),
        quantization=asked.to_quantization(),
        push_to=asked.push_to,
        push=push,
    )
    return ExportObject.to_wire(services.store.add_export(export))


@router.get("")
def list_exports(
    services: Serviced,
    *,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: str | None = None,
) -> ExportList:
    """List exports, newest first."""
    return ExportList.to_wire(services.store.list_exports(after=after, limit=limit))


@router.get("/{export_id}")
def retrieve_export(services: Serviced, export_id: str) -> ExportObject:
    """Retrieve an export: how far it has come, its files, and what the comparison found."""
    return ExportObject.to_wire(services.store.export(export_id))


@router.post("/{export_id}/cancel")
def cancel_export(services: Serviced, export_id: str) -> ExportObject:
    """Cancel an export that has not ended."""
    return ExportObject.to_wire(services.store.cancel_export(export_id, now=services.now()))


@router.delete("/{export_id}")
def delete_export(services: Serviced, export_id: str) -> ExportDeleted:
    """Delete an export that has ended, with its files; what was pushed stays."""
    export = services.store.delete_export(export_id)
    ExportDirectory(services.artifacts, export.id).delete()
    return ExportDeleted(id=export.id)


@router.get("/{export_id}/content", response_class=StreamingResponse, responses=BYTES)
def download_export(services: Serviced, export_id: str) -> StreamingResponse:
    """Download all files of an export as one ZIP archive, which is not compressed."""
    export = _succeeded(services, export_id)
    directory = ExportDirectory(services.artifacts, export.id)
    parts = archive([(file.name, file.bytes) for file in export.files], directory.open_file)
    headers = {
        "Content-Disposition": f'attachment; filename="{export.id}-{export.format}.zip"',
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(parts, media_type="application/zip", headers=headers)


@router.get("/{export_id}/content/{name:path}", response_class=Response, responses=BYTES)
def download_export_file(
    services: Serviced,
    *,
    export_id: str,
    name: str,
    range_: Annotated[
        str | None, Header(alias="Range", description="A part, such as `bytes=1000-`.")
    ] = None,
) -> Response:
    """Download one file of an export, or with the header `Range` a part of it."""
    export = _succeeded(services, export_id)
    file = next((each for each in export.files if each.name == name), None)
    if file is None:
        known = ", ".join(f"'{each.name}'" for each in export.files)
        raise NotFoundError(
            f"Export '{export.id}' has no file '{name[:100]}'. It has: {known}.", param="name"
        )
    stream = ExportDirectory(services.artifacts, export.id).open_file(file.name)
    shown = file.name.rpartition("/")[2]
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(shown, safe='')}",
        "ETag": f'"{file.sha256}"',
    }
    return answer_part(stream, size=file.bytes, wanted=range_, headers=headers)


def _succeeded(services: Services, export_id: str) -> Export:
    """Return the export, whose files are there. Raises `ConflictError` where they are not."""
    export = services.store.export(export_id)
    if export.status is not ExportStatus.SUCCEEDED:
        raise ConflictError(
            f"Export '{export.id}' is {export.status}; its files are there once it has succeeded.",
            param="export_id",
            code="export_not_ready",
        )
    return export
