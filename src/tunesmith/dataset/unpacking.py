"""Unpacks gzip (RFC 1952) and zstd (RFC 8878) as streams, and stops where it gets beyond reason."""

from __future__ import annotations

import gzip
import zlib
from enum import Enum
from io import BufferedReader, RawIOBase
from typing import TYPE_CHECKING, BinaryIO, cast

from tunesmith.dataset.problems import Rule

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_RATIO = 200
"""How many times larger than packed a text may be; JSON's is rarely above 20."""

_UNBOUNDED = 64 * 2**20


class Packing(Enum):
    """How a file is packed: the bytes with which it begins, none of which begin a text in UTF-8."""

    GZIP = b"\x1f\x8b"
    ZSTD = b"\x28\xb5\x2f\xfd"

    @classmethod
    def of(cls, head: bytes) -> Packing | None:
        """Return how a file that begins with `head` is packed; `None` if it is not."""
        return next((packing for packing in cls if head.startswith(packing.value)), None)


class PackedError(Exception):
    """A packed file cannot be read on; the text is what is wrong and the mend."""

    def __init__(self, rule: Rule, message: str) -> None:
        """Keep what it is about."""
        super().__init__(message)
        self.rule = rule
        """What it is about."""


class Unpacked(RawIOBase):
    """The text of a packed file; reading raises `PackedError` where it is damaged.

    Memory is constant. From 64 MiB of text on, one that is more than `MAX_RATIO`
    times larger than what was read for it is refused.
    """

    def __init__(self, file: BinaryIO, head: bytes, *, packing: Packing) -> None:
        """Unpack `head`, which was read from `file` already, and the rest of `file`."""
        self._packed = _Joined(file, head)
        self._packing = packing
        self._text = _OPENERS[packing](cast("BinaryIO", BufferedReader(self._packed)))
        self._size = 0
        self.line = 1
        """The line of the text up to which it has been unpacked."""

    def readable(self) -> bool:
        """Return true."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill `buffer` with text, at least a byte of it; return how much, 0 at the end."""
        view = memoryview(buffer)
        try:
            chunk = self._text.read(len(view))
        except (OSError, EOFError, zlib.error) as error:
            name = self._packing.name.lower()
            message = f"the {name} file is damaged or cut here ({error}). Pack it again."
            raise PackedError(Rule(f"invalid_{name}"), message) from None
        self._size += len(chunk)
        if self._size > max(_UNBOUNDED, MAX_RATIO * self._packed.size):
            message = f"unpacked, the text is over {MAX_RATIO} times larger. Upload it unpacked."
            raise PackedError(Rule.UNPACKED_TOO_LARGE, message)
        self.line += chunk.count(b"\n")
        view[: len(chunk)] = chunk
        return len(chunk)


class _Joined(RawIOBase):
    """A file with what was read from it already, counted."""

    def __init__(self, file: BinaryIO, head: bytes) -> None:
        self._file = file
        self._head = head
        self.size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        chunk, self._head = self._head[: len(view)], self._head[len(view) :]
        chunk = chunk or self._file.read(len(view))
        view[: len(chunk)] = chunk
        self.size += len(chunk)
        return len(chunk)


def _open_gzip(packed: BinaryIO) -> BinaryIO:
    return cast("BinaryIO", gzip.GzipFile(fileobj=packed, mode="rb"))


def _open_zstd(packed: BinaryIO) -> BinaryIO:
    # It takes a third of a second, and most files do not need it.
    import pyarrow as pa  # noqa: PLC0415

    return cast("BinaryIO", pa.CompressedInputStream(pa.PythonFile(packed, "r"), "zstd"))


_OPENERS = {Packing.GZIP: _open_gzip, Packing.ZSTD: _open_zstd}
