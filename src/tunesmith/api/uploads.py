"""`/v1/uploads`: a big file in parts, which may come in parallel and in any order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from typing import BinaryIO

from fastapi import APIRouter

from tunesmith.api.answers import WireRoute
from tunesmith.api.body import JsonBody, PartBody, checked_filename
from tunesmith.api.content import Content
from tunesmith.api.files import chunks
from tunesmith.api.openapi import PART_FORM, json_body
from tunesmith.api.services import Serviced, Services
from tunesmith.domain.errors import ArtifactMissingError, InvalidRequestError
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.ids import new_file_id, new_part_id, new_upload_id
from tunesmith.domain.uploads import UPLOAD_LIFE, Upload, UploadPart
from tunesmith.protocol.reading import read_shape, shortened
from tunesmith.protocol.uploads import (
    CompleteUpload,
    CreateUpload,
    UploadObject,
    UploadPartObject,
)

router = APIRouter(route_class=WireRoute, prefix="/v1/uploads", tags=["uploads"])
"""The routes of this resource."""


@router.post("", openapi_extra=json_body(CreateUpload))
def create_upload(services: Serviced, body: JsonBody) -> UploadObject:
    """Announce a file that will come in parts, within an hour."""
    wanted = read_shape(CreateUpload, body)
    services.disk.check(wanted.bytes)
    now = services.now()
    upload = Upload(
        id=new_upload_id(),
        filename=checked_filename(wanted.filename, param="filename"),
        purpose=Purpose(wanted.purpose),
        mime_type=wanted.mime_type,
        bytes=wanted.bytes,
        created_at=now,
        expires_at=now + UPLOAD_LIFE,
        expires_after=wanted.expires_after.seconds if wanted.expires_after else None,
    )
    services.store.add_upload(upload)
    return UploadObject.to_wire(upload)


@router.post("/{upload_id}/parts", openapi_extra=PART_FORM)
def add_upload_part(services: Serviced, upload_id: str, *, content: PartBody) -> UploadPartObject:
    """Add a part: a form with the part `data`, of at most 64 MiB."""
    now = services.now()
    part = UploadPart(id=new_part_id(), upload_id=upload_id, created_at=now, bytes=content.bytes)
    with ExitStack() as undo:
        undo.callback(services.artifacts.delete, part.key)
        content.publish(part.key)
        # The upload may have ended meanwhile, which the store refuses.
        services.store.add_part(part)
        undo.pop_all()
    return UploadPartObject.to_wire(part)


@router.post("/{upload_id}/complete", openapi_extra=json_body(CompleteUpload))
def complete_upload(services: Serviced, upload_id: str, *, body: JsonBody) -> UploadObject:
    """Make one file of the parts, in the order that the request gives."""
    wanted = read_shape(CompleteUpload, body)
    upload = services.store.pending_upload(upload_id)
    services.disk.check(upload.bytes)
    parts = _ordered(upload, services.store.list_parts(upload_id), part_ids=wanted.part_ids)
    with services.artifacts.writer() as writer:
        content = Content(writer)
        _put_together(services, content, parts=parts, md5=wanted.md5)
        file = _file(upload, content, now=services.now())
        with content.in_place(services.artifacts):
            upload = services.store.complete_upload(upload_id, file)
    services.artifacts.delete(upload.key)
    return UploadObject.to_wire(upload, file)


@router.post("/{upload_id}/cancel")
def cancel_upload(services: Serviced, upload_id: str) -> UploadObject:
    """Cancel a pending upload and delete its parts."""
    upload = services.store.cancel_upload(upload_id)
    services.artifacts.delete(upload.key)
    return UploadObject.to_wire(upload)


def _ordered(
    upload: Upload, parts: Sequence[UploadPart], *, part_ids: Sequence[str]
) -> list[UploadPart]:
    """Return the parts in the order of `part_ids`.

    Raises `InvalidRequestError` for an id that is no part of the upload or comes
    twice, and for another number of bytes than was announced.
    """
    known = {part.id: part for part in parts}
    first: dict[str, int] = {}
    for place, part_id in enumerate(part_ids):
        param, shown = f"part_ids.{place}", shortened(part_id)
        if part_id not in known:
            raise InvalidRequestError(
                f"'{param}', '{shown}', is no part of upload '{upload.id}'; give the ids that "
                "were answered when its parts were added.",
                param=param,
            )
        if first.setdefault(part_id, place) != place:
            raise InvalidRequestError(
                f"'{param}', '{shown}', stands at 'part_ids.{first[part_id]}' already; "
                "give each part once.",
                param=param,
            )
    ordered = [known[part_id] for part_id in part_ids]
    size = sum(part.bytes for part in ordered)
    if size != upload.bytes:
        raise InvalidRequestError(
            f"The parts have {size} bytes together, but the upload was created for {upload.bytes}. "
            "Name all of its parts, or create an upload with the right number.",
            param="part_ids",
        )
    return ordered


def _put_together(
    services: Services, content: Content, *, parts: Sequence[UploadPart], md5: str | None
) -> None:
    """Write `parts`, one behind the other, to `content`.

    Raises `InvalidRequestError` where they have not the given `md5` together.
    """
    digest = hashlib.md5(usedforsecurity=False)
    for part in parts:
        for chunk in chunks(_open(services, part)):
            content.write(chunk)
            if md5 is not None:
                digest.update(chunk)
    found = digest.hexdigest()
    if md5 is not None and found != md5.lower():
        raise InvalidRequestError(
            f"The parts together have the MD5 {found}, not {md5}. Compare their order and "
            "content with the file, and add again those that differ.",
            param="md5",
        )


def _open(services: Services, part: UploadPart) -> BinaryIO:
    try:
        return services.artifacts.open(part.key)
    except ArtifactMissingError:
        # A cancellation or the expiry came in between, and says so here.
        services.store.pending_upload(part.upload_id)
        raise


def _file(upload: Upload, content: Content, *, now: int) -> File:
    """Return the file that `upload` becomes by `content` at the unix second `now`."""
    return File(
        id=new_file_id(),
        filename=upload.filename,
        purpose=upload.purpose,
        bytes=content.bytes,
        sha256=content.sha256,
        created_at=now,
        key=content.key,
        expires_at=upload.expires_after and now + upload.expires_after,
    )
