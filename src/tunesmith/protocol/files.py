"""OpenAI's File, which serves OPEA's clients too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError

from tunesmith.domain.files import MAX_FILE_LIFE, MIN_FILE_LIFE, File
from tunesmith.domain.values import Page
from tunesmith.protocol.reading import complaint
from tunesmith.protocol.wire import Wire

FilePurpose = Literal[
    "assistants",
    "batch",
    "fine-tune",
    "vision",
    "user_data",
    "evals",
    "assistants_output",
    "batch_output",
    "fine-tune-results",
]
"""The purposes that OpenAI's files have; here, none has one of the two other outputs."""

EXPIRY_PARTS = {"anchor": "expires_after[anchor]", "seconds": "expires_after[seconds]"}
"""The parts of a form that say when its file expires, by the keys that they have in JSON."""

_NUMBER = re.compile("[0-9]{1,18}")


class ExpiresAfter(Wire):
    """When a file is to expire."""

    anchor: Literal["created_at"]
    """What the seconds are counted from: the file's creation."""
    seconds: Annotated[int, Field(ge=MIN_FILE_LIFE, le=MAX_FILE_LIFE)]
    """How long it stays: an hour to 30 days."""

    @classmethod
    def from_form(cls, values: Mapping[str, str | None]) -> Self | None:
        """Return what a form's `values` say, in `expires_after[anchor]` and `…[seconds]`.

        Raises `InvalidRequestError` that names the part at fault.
        """
        given = {key: values[name] for key, name in EXPIRY_PARTS.items() if name in values}
        if not given:
            return None
        seconds = given.get("seconds")
        number = {"seconds": int(seconds)} if seconds and _NUMBER.fullmatch(seconds) else {}
        try:
            return cls.model_validate({**given, **number})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = EXPIRY_PARTS[str(first["loc"][0])]
            raise complaint({**first, "loc": (place,)}) from None


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
    expires_at: Annotated[int | None, Field(exclude_if=lambda at: at is None)] = None
    """Unix seconds; left out for a file that does not expire."""

    @classmethod
    def to_wire(cls, file: File) -> Self:
        """Return `file` as clients see it."""
        return cls(
            id=file.id,
            bytes=file.bytes,
            created_at=file.created_at,
            filename=file.filename,
            purpose=file.purpose.value,
            expires_at=file.expires_at,
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
