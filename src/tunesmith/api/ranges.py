"""Answers with a file or a part of it, and with many files as one archive, as they are read."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from starlette.responses import Response, StreamingResponse

_CHUNK = 1024 * 1024
"""Bytes that are held at a time."""

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def part_of(wanted: str | None, *, size: int) -> tuple[int, int] | None:
    """Return the first byte and that behind the last one that a header `Range` asks for.

    `None` means the whole file of `size` bytes: there is no such header, or one of another kind,
    which may be passed over. Where the part begins behind the file's end, it is empty.
    """
    found = _RANGE.fullmatch(wanted.strip()) if wanted else None
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        return max(size - int(last), 0), size
    begin = int(first)
    if last and int(last) < begin:
        return None
    return begin, max(min(int(last) + 1 if last else size, size), begin)


def answer_part(
    stream: BinaryIO, *, size: int, wanted: str | None, headers: dict[str, str]
) -> Response:
    """Answer with the part of `stream` that the header `Range`, `wanted`, asks for, or all."""
    headers = {**headers, "Accept-Ranges": "bytes", "X-Content-Type-Options": "nosniff"}
    part = part_of(wanted, size=size)
    if part is not None and part[0] >= part[1]:
        stream.close()
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    begin, end = part or (0, size)
    headers["Content-Length"] = str(end - begin)
    if part is not None:
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
    return StreamingResponse(
        _between(stream, begin, end=end),
        status_code=200 if part is None else 206,
        media_type="application/octet-stream",
        headers=headers,
    )


def _between(stream: BinaryIO, begin: int, *, end: int) -> Iterator[bytes]:
    with stream:
        stream.seek(begin)
        left = end - begin
        while left and (chunk := stream.read(min(left, _CHUNK))):
            left -= len(chunk)
            yield chunk


class _Sink:
    """Takes what an archive writes, to be sent at once; it cannot go back."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._written.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: what is written waits for `taken`."""

    def taken(self) -> bytes:
        data = b"".join(self._written)
        self._written.clear()
        return data


def archive(
    files: Iterable[tuple[str, int]], open_file: Callable[[str], BinaryIO]
) -> Iterator[bytes]:
    """Yield a ZIP archive of `files`, names with their sizes, uncompressed, as they are read."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED, allowZip64=True) as made:  # type: ignore[call-overload]
        for name, size in files:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o644 << 16
            # Whether it may be large is written before it; this leaves no doubt.
            large = size > zipfile.ZIP64_LIMIT // 2
            with open_file(name) as stream, made.open(entry, "w", force_zip64=large) as member:
                while chunk := stream.read(_CHUNK):
                    member.write(chunk)
                    yield sink.taken()
    yield sink.taken()
