"""OpenAI's Upload: a big file that comes in parts."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, WithJsonSchema

from tunesmith.domain.files import File
from tunesmith.domain.uploads import MAX_UPLOAD_BYTES, Upload, UploadPart
from tunesmith.protocol.files import ExpiresAfter, FileObject
from tunesmith.protocol.wire import Wire, expecting

FILENAME = r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$"
"""Names that are taken for certain; others are, as long as they are printable and no path."""


class CreateUpload(Wire):
    """The request that announces a file."""

    filename: Annotated[
        str,
        WithJsonSchema({"type": "string", "pattern": FILENAME, "minLength": 1, "maxLength": 255}),
    ]
    """A plain name, without any folder."""
    purpose: Literal["assistants", "batch", "fine-tune", "vision"]
    """What the file is for."""
    bytes: Annotated[int, Field(ge=1, le=MAX_UPLOAD_BYTES)]
    """Size of the whole, 1 byte to 8 GiB."""
    mime_type: Annotated[str, Field(min_length=1, max_length=255)]
    """What the content is; kept, not checked."""
    expires_after: ExpiresAfter | None = None
    """When the file is to expire; null keeps it."""


class CompleteUpload(Wire):
    """The request that makes one file of the parts."""

    part_ids: Annotated[list[str], Field(min_length=1)]
    """The parts' ids in the order of their content."""
    md5: (
        Annotated[str, Field(pattern="^[0-9A-Fa-f]{32}$"), expecting("an MD5 of 32 hex digits")]
        | None
    ) = None
    """MD5 of the whole content in hex, which is then compared, or null."""


class UploadObject(Wire):
    """An upload as clients see it."""

    id: str
    """`upload_…`."""
    object: Literal["upload"] = "upload"
    """Tells the kinds of objects apart."""
    bytes: int
    """Size of the whole, in bytes, as announced."""
    created_at: int
    """Unix seconds."""
    filename: str
    """The name of the file to be."""
    purpose: str
    """What the file is for."""
    status: Literal["pending", "completed", "cancelled", "expired"]
    """Where it stands."""
    expires_at: int
    """Unix seconds; one hour behind the creation."""
    file: FileObject | None
    """The file that it became; null until it is completed."""

    @classmethod
    def to_wire(cls, upload: Upload, file: File | None = None) -> Self:
        """Return `upload`, which has become `file` if it is completed, as clients see it."""
        return cls(
            id=upload.id,
            bytes=upload.bytes,
            created_at=upload.created_at,
            filename=upload.filename,
            purpose=upload.purpose.value,
            status=upload.status.value,
            expires_at=upload.expires_at,
            file=FileObject.to_wire(file) if file else None,
        )


class UploadPartObject(Wire):
    """A part of an upload as clients see it."""

    id: str
    """`part_…`."""
    object: Literal["upload.part"] = "upload.part"
    """Tells the kinds of objects apart."""
    created_at: int
    """Unix seconds."""
    upload_id: str
    """The upload that it belongs to."""

    @classmethod
    def to_wire(cls, part: UploadPart) -> Self:
        """Return `part` as clients see it."""
        return cls(id=part.id, created_at=part.created_at, upload_id=part.upload_id)
