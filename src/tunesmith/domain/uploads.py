"""Big files that come in parts."""

from __future__ import annotations

from enum import StrEnum

from tunesmith.domain.files import Purpose
from tunesmith.domain.projects import DEFAULT_PROJECT
from tunesmith.domain.values import Value

UPLOAD_LIFE = 3600
"""Seconds from an upload's creation to its expiry."""

MAX_UPLOAD_BYTES = 8 * 1024**3
"""Largest upload, in bytes."""

MAX_PART_BYTES = 64 * 1024**2
"""Largest part of an upload, in bytes."""


class UploadStatus(StrEnum):
    """Where an upload stands. Only a pending one takes parts."""

    PENDING = "pending"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Upload(Value):
    """A file that is announced and comes in parts."""

    id: str
    """`upload_…`."""
    filename: str
    """The name of the file to be, without any folder."""
    purpose: Purpose
    """What the file is for."""
    mime_type: str
    """What the uploader says the content is; kept, not checked."""
    bytes: int
    """Size of the whole, in bytes."""
    created_at: int
    """Unix seconds."""
    expires_at: int
    """Unix seconds; from then on, an upload that is still pending has expired."""
    expires_after: int | None = None
    """Seconds from the file's creation to its expiry; `None` keeps it."""
    status: UploadStatus = UploadStatus.PENDING
    """How it ended; whether a pending one has expired is decided by the time."""
    file_id: str | None = None
    """The file that it became, if it is completed."""
    project: str = DEFAULT_PROJECT
    """The project that it belongs to; the store writes it."""

    @property
    def key(self) -> str:
        """Return the key below which `artifacts` holds the parts until the upload ends."""
        return f"uploads/{self.id}"


class UploadPart(Value):
    """A part of an upload."""

    id: str
    """`part_…`."""
    upload_id: str
    """The upload that it belongs to."""
    created_at: int
    """Unix seconds."""
    bytes: int
    """Size in bytes."""

    @property
    def key(self) -> str:
        """Return where `artifacts` holds the bytes until the upload ends."""
        return f"uploads/{self.upload_id}/{self.id}"
