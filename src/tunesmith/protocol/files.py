"""OpenAI's File, which serves OPEA's clients too."""

from __future__ import annotations

from typing import Literal, Self

from tunesmith.domain.files import File
from tunesmith.domain.values import Page
from tunesmith.protocol.wire import Wire

FilePurpose = Literal[
    "assistants", "batch", "fine-tune", "vision", "user_data", "evals", "fine-tune-results"
]
"""The purposes that files here have."""


class FileObject(Wire):
    """A file; OPEA's keys come first, in OPEA's order."""

    id: str
    """`file-…`."""
    bytes: int
    """Size in bytes."""
    created_at: int
    """Unix seconds."""
    filename: str
    """The name the uploader gave."""
    object: Literal["file"] = "file"
    """Tells the kinds of objects apart."""
    purpose: FilePurpose
    """What the file is for."""
    status: Literal["processed"] = "processed"
    """Deprecated by OpenAI but required; files are checked when a job starts."""
    status_details: None = None
    """Deprecated by OpenAI; always null."""
    expires_at: None = None
    """Files do not expire."""

    @classmethod
    def to_wire(cls, file: File) -> Self:
        """Return `file` as clients see it."""
        return cls(
            id=file.id,
            bytes=file.bytes,
            created_at=file.created_at,
            filename=file.filename,
            purpose=file.purpose.value,
        )


class FileList(Wire):
    """A page of files."""

    object: Literal["list"] = "list"
    """Tells the kinds of objects apart."""
    data: list[FileObject]
    """The files."""
    first_id: str | None
    """Id of the first, null in an empty page."""
    last_id: str | None
    """Id of the last, the next page's `after`."""
    has_more: bool
    """Whether more follow."""

    @classmethod
    def to_wire(cls, page: Page[File]) -> Self:
        """Return `page` as clients see it."""
        data = [FileObject.to_wire(file) for file in page.items]
        return cls(
            data=data,
            first_id=data[0].id if data else None,
            last_id=data[-1].id if data else None,
            has_more=page.has_more,
        )


class FileDeleted(Wire):
    """The answer to a deletion."""

    id: str
    """The file that is gone."""
    object: Literal["file"] = "file"
    """Tells the kinds of objects apart."""
    deleted: Literal[True] = True
    """It is gone."""
