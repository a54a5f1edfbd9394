"""Receive a request's body: whole for JSON, spooled to disk for an upload."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, BinaryIO

from fastapi import Depends, Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from tunesmith.api.codes import TOO_LARGE, WRONG_CONTENT_TYPE
from tunesmith.api.services import Serviced
from tunesmith.domain.disk import naming_full_disk
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.files import UPLOADABLE, Purpose
from tunesmith.domain.uploads import MAX_PART_BYTES
from tunesmith.protocol.reading import describe, read_object, shortened

_MAX_JSON_BYTES = 1024 * 1024
"""Largest JSON body; a job's request is a few kilobytes."""

_FORM_BYTES = 64 * 1024
"""What a multipart body may add to its file: boundaries, headers and the other parts."""

_MAX_NAME_BYTES = 255
"""Longest file name, as on common file systems."""


@dataclass(frozen=True)
class Upload:
    """The parts of an upload's form."""

    filename: str
    """A plain name without any folder."""
    purpose: Purpose
    """What the file is for."""
    stream: BinaryIO
    """The content, from its first byte."""


async def _json_object(request: Request) -> dict[str, Any]:
    content_type = _media_type(request)
    if content_type not in ("", "application/json"):
        raise InvalidRequestError(
            f"The body's content type is '{shortened(content_type)}'; "
            "send JSON with 'Content-Type: application/json'.",
            code=WRONG_CONTENT_TYPE,
        )
    return read_object(b"".join([chunk async for chunk in _limited(request, _MAX_JSON_BYTES)]))


JsonBody = Annotated[dict[str, Any], Depends(_json_object)]
"""A handler's parameter that receives the body's JSON object."""


async def _upload(request: Request, services: Serviced) -> AsyncGenerator[Upload]:
    limit = services.max_upload_bytes
    async with _form(request, limit, taking="the parts 'file' and 'purpose'") as form:
        yield _checked_upload(form, limit)


UploadBody = Annotated[Upload, Depends(_upload)]
"""A handler's parameter that receives an upload."""


async def _upload_part(request: Request) -> AsyncGenerator[BinaryIO]:
    async with _form(request, MAX_PART_BYTES, taking="the part 'data'") as form:
        data = _only_file(form, "data", others=())
        if not data.size:
            raise InvalidRequestError("'data' is empty; send some of the file.", param="data")
        _check_size(data, "data", shown="'data'", limit=MAX_PART_BYTES)
        yield data.file


PartBody = Annotated[BinaryIO, Depends(_upload_part)]
"""A handler's parameter that receives the content of an upload's part, from its first byte."""


@asynccontextmanager
async def _form(request: Request, limit: int, *, taking: str) -> AsyncGenerator[FormData]:
    """Receive a form whose file has at most `limit` bytes; `taking` names its parts."""
    if _media_type(request) != "multipart/form-data":
        raise InvalidRequestError(
            f"A file is uploaded as 'multipart/form-data' with {taking}.", code=WRONG_CONTENT_TYPE
        )
    stream = _limited(request, limit, extra=_FORM_BYTES)
    try:
        with naming_full_disk():
            form = await MultiPartParser(request.headers, stream, max_files=8, max_fields=8).parse()
    except MultiPartException as error:
        raise InvalidRequestError(f"The form cannot be read: {error.message}") from None
    try:
        yield form
    finally:
        await form.close()


def checked_filename(name: str, *, param: str = "file") -> str:
    """Return `name` if it is a plain file name; raises `InvalidRequestError` for `param` if not."""
    faults = {
        "is empty": not name.strip(),
        "has path parts": "/" in name or "\\" in name or name in (".", ".."),
        "has control or invisible characters": not name.isprintable(),
        f"is longer than {_MAX_NAME_BYTES} bytes": len(name.encode()) > _MAX_NAME_BYTES,
    }
    for fault, found in faults.items():
        if found:
            raise InvalidRequestError(
                f"The file name '{shortened(name)}' {fault}; send a plain name such as "
                "'train.jsonl'.",
                param=param,
            )
    return name


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _limited(request: Request, limit: int, *, extra: int = 0) -> AsyncGenerator[bytes]:
    """Yield the body's chunks; raises `InvalidRequestError` where it is too large or breaks off.

    `limit` is in bytes; `extra` are those that a form may add to its file.
    """
    seen = 0
    try:
        async for chunk in request.stream():
            seen += len(chunk)
            if seen > limit + extra:
                raise InvalidRequestError(
                    f"The body is larger than the {limit} bytes that are taken; send less.",
                    code=TOO_LARGE,
                )
            yield chunk
    except ClientDisconnect:
        raise InvalidRequestError("The connection ended before the body did.") from None


def _checked_upload(form: FormData, limit: int) -> Upload:
    file = _only_file(form, "file", others=("purpose",))
    purpose = _part(form, "purpose")
    filename = checked_filename(_whole_name(file))
    if not file.size:
        raise InvalidRequestError(
            f"The file '{filename}' is empty; send one with content.", param="file"
        )
    _check_size(file, "file", shown=f"The file '{filename}'", limit=limit)
    return Upload(filename, _checked_purpose(purpose), file.file)


def _only_file(form: FormData, name: str, *, others: Collection[str]) -> UploadFile:
    """Return the form's file `name`; raises `InvalidRequestError` for parts but it and `others`."""
    file = _part(form, name)
    for found in form:
        if found not in (name, *others):
            raise InvalidRequestError(
                f"'{shortened(found)}' is no known part of the form; leave it out.", param=found
            )
    if not isinstance(file, UploadFile):
        raise InvalidRequestError(
            f"'{name}' is a plain value; send it as a file, with a file name.", param=name
        )
    return file


def _check_size(file: UploadFile, param: str, *, shown: str, limit: int) -> None:
    if (file.size or 0) > limit:
        raise InvalidRequestError(
            f"{shown} has {file.size} bytes; at most {limit} are taken.",
            param=param,
            code=TOO_LARGE,
        )


def _whole_name(file: UploadFile) -> str:
    """Return the file's name with a sign of the folder that the form's parser has cut off.

    It takes a name that starts with a Windows drive or share for its last part alone. Raises
    `InvalidRequestError` for a name that is not UTF-8, which the parser reads as Latin-1.
    """
    name = file.filename or ""
    header = file.headers.get("content-disposition", "").replace('\\"', "")
    try:
        header.encode("latin-1").decode()
    except UnicodeDecodeError as error:
        raise InvalidRequestError(
            f"The file name is not UTF-8: it has the byte 0x{error.object[error.start]:02x}. "
            "Encode it as UTF-8.",
            param="file",
        ) from None
    return f"…\\{name}" if "\\" in header else name


def _part(form: FormData, name: str) -> UploadFile | str:
    parts = form.getlist(name)
    if len(parts) != 1:
        fault = "is missing; it is required" if not parts else "is given more than once"
        raise InvalidRequestError(f"The form's part '{name}' {fault}.", param=name)
    return parts[0]


def _checked_purpose(part: UploadFile | str) -> Purpose:
    if isinstance(part, UploadFile) or part not in UPLOADABLE:
        found = "a file" if isinstance(part, UploadFile) else describe(part)
        known = ", ".join(f"'{purpose}'" for purpose in UPLOADABLE)
        raise InvalidRequestError(
            f"'purpose' must be one of {known}; found {found}.", param="purpose"
        )
    return Purpose(part)
