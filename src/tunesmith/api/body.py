"""Receive a request's body: whole for JSON, straight to its place for an upload."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool
from starlette.requests import ClientDisconnect

from tunesmith.api.codes import TOO_LARGE, WRONG_CONTENT_TYPE
from tunesmith.api.content import Content
from tunesmith.api.form import FormReader
from tunesmith.api.services import Serviced, Services
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.files import UPLOADABLE, Purpose
from tunesmith.domain.uploads import MAX_PART_BYTES
from tunesmith.protocol.files import EXPIRY_PARTS, ExpiresAfter
from tunesmith.protocol.reading import describe, read_object, shortened

_MAX_JSON_BYTES = 1024 * 1024
"""Largest JSON body; a job's request is a few kilobytes."""

_FORM_BYTES = 64 * 1024
"""What a multipart body may add to its file: boundaries, headers and the other parts."""

_PIECE = 1024 * 1024
"""Bytes that are gathered before a thread hashes and writes them."""

_MAX_NAME_BYTES = 255
"""Longest file name, as on common file systems."""


@dataclass(frozen=True)
class Upload:
    """A file that has arrived."""

    filename: str
    """A plain name without any folder."""
    purpose: Purpose
    """What the file is for."""
    expires_after: int | None
    """Seconds from the file's creation to its expiry; `None` keeps it."""
    content: Content
    """All of its bytes, which have no key yet and are gone behind the request without one."""


async def _json_bytes(request: Request) -> bytes:
    content_type = _media_type(request)
    if content_type not in ("", "application/json"):
        raise InvalidRequestError(
            f"The body's content type is '{shortened(content_type)}'; "
            "send JSON with 'Content-Type: application/json'.",
            code=WRONG_CONTENT_TYPE,
        )
    return b"".join([chunk async for chunk in _limited(request, _MAX_JSON_BYTES)])


async def _json_object(request: Request) -> dict[str, Any]:
    return read_object(await _json_bytes(request))


JsonBody = Annotated[dict[str, Any], Depends(_json_object)]
"""A handler's parameter that receives the body's JSON object."""


async def _json_object_if_any(request: Request) -> dict[str, Any]:
    raw = await _json_bytes(request)
    return read_object(raw) if raw else {}


OptionalJsonBody = Annotated[dict[str, Any], Depends(_json_object_if_any)]
"""The same, empty where there is no body."""


async def _upload(request: Request, services: Serviced) -> AsyncGenerator[Upload]:
    reader = _reader(
        request,
        file="file",
        values=("purpose", *EXPIRY_PARTS.values()),
        limit=services.max_upload_bytes,
        mend="bring a larger file in parts, by '/v1/uploads'",
    )
    # Nobody should send a large file to learn that there is no room for it.
    await run_in_threadpool(services.disk.check, _least_size(request))
    await run_in_threadpool(services.store.check_room, _least_size(request))
    async with _received(request, reader, services=services) as content:
        yield _checked_upload(reader, content)


UploadBody = Annotated[Upload, Depends(_upload)]
"""A handler's parameter that receives an upload."""


async def _upload_part(
    request: Request, services: Serviced, *, upload_id: str
) -> AsyncGenerator[Content]:
    # Nobody should send 64 MiB to learn that they are not taken.
    await run_in_threadpool(services.disk.check, _least_size(request))
    await run_in_threadpool(services.store.pending_upload, upload_id)
    mend = "cut the file into smaller parts"
    reader = _reader(request, file="data", values=(), limit=MAX_PART_BYTES, mend=mend)
    async with _received(request, reader, services=services) as content:
        if not content.bytes:
            raise InvalidRequestError("'data' is empty; send some of the file.", param="data")
        yield content


PartBody = Annotated[Content, Depends(_upload_part)]
"""A handler's parameter that receives the content of a part of the pending upload `upload_id`."""


def _reader(
    request: Request, *, file: str, values: tuple[str, ...], limit: int, mend: str
) -> FormReader:
    """Return the reader of the request's form. Raises `InvalidRequestError` if there is none."""
    if _media_type(request) != "multipart/form-data":
        named = ", ".join(f"'{name}'" for name in (file, *values))
        raise InvalidRequestError(
            f"A file is uploaded as 'multipart/form-data'; the form takes {named}.",
            code=WRONG_CONTENT_TYPE,
        )
    content_type = request.headers["content-type"]
    return FormReader(content_type, file=file, values=values, limit=limit, mend=mend)


def _least_size(request: Request) -> int:
    """Return the bytes that the form's file has at the least, as far as its length is announced."""
    length = request.headers.get("content-length", "")
    return max(0, int(length) - _FORM_BYTES) if length.isdecimal() else 0


@asynccontextmanager
async def _received(
    request: Request, reader: FormReader, *, services: Services
) -> AsyncGenerator[Content]:
    """Yield the form's file once the body has come to its end, as far as it is written."""
    async with contextmanager_in_threadpool(services.artifacts.writer()) as writer:
        content = Content(writer)
        pieces: list[bytes] = []
        async for chunk in _limited(request, reader.limit, extra=_FORM_BYTES):
            pieces += reader.feed(chunk)
            if reader.size - content.bytes >= _PIECE:
                await run_in_threadpool(content.write, *pieces)
                pieces.clear()
        reader.end()
        await run_in_threadpool(content.write, *pieces)
        yield content


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

    `limit` is in bytes; `extra` are those that a form may add to its file. A body
    that announces its length is refused before any of it is read.
    """
    length = request.headers.get("content-length", "")
    seen = announced = int(length) if length.isdecimal() else 0
    try:
        if announced <= limit + extra:
            seen = 0
            async for chunk in request.stream():
                seen += len(chunk)
                if seen > limit + extra:
                    break
                yield chunk
    except ClientDisconnect:
        raise InvalidRequestError("The connection ended before the body did.") from None
    if seen > limit + extra:
        raise InvalidRequestError(
            f"The body is larger than the {limit} bytes that are taken; send less.",
            code=TOO_LARGE,
        )


def _checked_upload(reader: FormReader, content: Content) -> Upload:
    if "purpose" not in reader.values:
        raise reader.missing("purpose")
    filename = checked_filename(_whole_name(reader))
    if not content.bytes:
        raise InvalidRequestError(
            f"The file '{filename}' is empty; send one with content.", param="file"
        )
    expiry = ExpiresAfter.from_form(reader.values)
    return Upload(
        filename,
        _checked_purpose(reader.values["purpose"]),
        expires_after=expiry.seconds if expiry else None,
        content=content,
    )


def _whole_name(reader: FormReader) -> str:
    """Return the file's name with a sign of the folder that the form's parser has cut off.

    It takes a name that starts with a Windows drive or share for its last part
    alone. Raises `InvalidRequestError` for a name that is not UTF-8.
    """
    try:
        name = reader.filename.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequestError(
            f"The file name is not UTF-8: it has the byte 0x{error.object[error.start]:02x}. "
            "Encode it as UTF-8.",
            param="file",
        ) from None
    return f"…\\{name}" if b"\\" in reader.disposition.replace(b'\\"', b"") else name


def _checked_purpose(value: str | None) -> Purpose:
    if value not in UPLOADABLE:
        found = "a file" if value is None else describe(value)
        known = ", ".join(f"'{purpose}'" for purpose in UPLOADABLE)
        raise InvalidRequestError(
            f"'purpose' must be one of {known}; found {found}.", param="purpose"
        )
    return Purpose(value)
