"""A stream over objects of a bucket that reads ranges as they are asked for."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.artifacts.s3_bucket import Bucket

FIRST = 1 << 20
"""Bytes that are read first, and again behind each jump."""
_MOST = 16 << 20
"""Bytes that are read ahead at the most where reading goes on and on."""


@dataclass(frozen=True)
class Segment:
    """An object, or its beginning, that is a part of what is read."""

    name: str
    """Its name in the bucket."""
    size: int
    """How many of its bytes belong to it."""
    etag: str | None
    """The version that is read; `None` where it may grow meanwhile, and only behind `size`."""


class RangedStream(io.RawIOBase):
    """Reads `segments`, one behind the other; twice as much ahead each time, up to 16 MiB."""

    def __init__(self, bucket: Bucket, segments: Sequence[Segment], *, first: bytes) -> None:
        """Take `first`, the bytes that were read from the beginning already."""
        super().__init__()
        self._bucket = bucket
        self._segments = segments
        self._size = sum(segment.size for segment in segments)
        self._place = 0
        self._start, self._block = 0, first
        self._ahead = FIRST

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that it has places to go to."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place, which costs nothing until it is read there."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def tell(self) -> int:
        """Return where the next byte is read."""
        return self._place

    def readinto(self, buffer: Any, /) -> int:
        """Fill `buffer` with as many bytes as are at hand, or read ahead and fill it then."""
        if self._place >= self._size or not len(buffer):
            return 0
        if not self._start <= self._place < self._start + len(self._block):
            self._fetch(len(buffer))
        begin = self._place - self._start
        found = memoryview(self._block)[begin : begin + len(buffer)]
        buffer[: len(found)] = found
        self._place += len(found)
        return len(found)

    def readall(self) -> bytes:
        """Return all that follows."""
        pieces: list[bytes] = []
        while piece := self.read(min(_MOST, self._size - self._place)):
            pieces.append(piece)
        return b"".join(pieces)

    def _fetch(self, wanted: int) -> None:
        goes_on = self._place == self._start + len(self._block)
        self._ahead = min(2 * self._ahead, _MOST) if goes_on else FIRST
        start, segment = self._place, self._segments[0]
        for segment in self._segments:
            if start < segment.size:
                break
            start -= segment.size
        end = min(segment.size, start + max(wanted, self._ahead))
        content, _ = self._bucket.get(segment.name, start=start, end=end, match=segment.etag)
        if len(content) != end - start:
            raise OSError(f"'{segment.name}' has become shorter while it was read.")
        self._start, self._block = self._place, content
