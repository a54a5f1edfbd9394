"""Reads what a request sends from its file in other threads, so that the page answers meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import islice

import httpx2

_AT_ONCE = 16
"""Pieces of 64 KiB, as httpx2 reads a file, that are read and held together."""


async def read_aside(request: httpx2.Request) -> None:
    """Have the body of `request` read by other threads where it is a form with a file.

    httpx2 itself reads files as if they were memory, and nothing else goes on meanwhile.
    """
    stream = request.stream
    if isinstance(stream, httpx2.SyncByteStream) and not isinstance(stream, httpx2.ByteStream):
        request.stream = _ReadAside(stream)


class _ReadAside(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = iter(self._stream)
        while piece := await asyncio.to_thread(_some, pieces):
            yield piece


def _some(pieces: Iterator[bytes]) -> bytes:
    return b"".join(islice(pieces, _AT_ONCE))
