"""A run's log, `runs/<job id>/log`: whole lines of several processes, read from either end."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.domain.errors import ArtifactMissingError, InvalidRequestError
from tunesmith.domain.events import LogLine
from tunesmith.domain.values import Page

LONGEST_LINE = 8_000
"""Characters of a line that are kept; what is behind them is dropped."""

_BLOCK = 1 << 16
"""Bytes that are read at once: more than the longest line has."""

_MOST_BYTES = 16 * _BLOCK
"""Bytes that one answer reads at most, however long the log is."""


class LogFile:
    """Writes and reads the log of one run; no look at it takes more memory than `_MOST_BYTES`."""

    def __init__(self, artifacts: Artifacts, job_id: str) -> None:
        """Look at the log of `job_id`; nothing is created yet."""
        self._artifacts = artifacts
        self._key = f"runs/{job_id}/log"

    def append(self, lines: Iterable[str]) -> None:
        """Add `lines` behind the others, whole, whoever else adds some at the same time.

        Raises `DiskFullError` or `OSError`, and has added nothing then.
        """
        text = "".join(f"{_shortened(line)}\n" for line in lines)
        if not text:
            return
        content = text.encode(errors="backslashreplace")
        # One who writes at the same time would lose lines where another's write is taken back.
        with self._artifacts.locked(self._key):
            self._artifacts.append(self._key, b"\n" + content if self._cut_off() else content)

    def last(self, count: int) -> Page[LogLine]:
        """Return the last `count` lines, or as many as there are and one look reads."""
        try:
            file = self._artifacts.open(self._key)
        except ArtifactMissingError:
            return Page[LogLine](items=(), has_more=False)
        with file:
            start, content = _read_back(file, count)
        lines = tuple(_lines(content, start=start))
        # The first may have begun before what was read.
        whole = lines[1:] if start else lines
        return Page[LogLine](items=whole[-count:], has_more=False)

    def behind(self, offset: int, *, limit: int) -> Page[LogLine]:
        """Return up to `limit` lines from the byte `offset` on, the end of a line known.

        Raises `InvalidRequestError` where the log does not reach so far.
        """
        size, content = 0, b""
        try:
            with self._artifacts.open(self._key) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(offset)
                content = file.read(_MOST_BYTES)
        except ArtifactMissingError:
            pass
        if offset > size:
            raise InvalidRequestError(
                f"The log has no line '{offset}': it ends at '{size}'. Give the 'id' of a line, or "
                "leave it out to see the last ones."
            )
        lines = tuple(_lines(content, start=offset))
        shown = lines[:limit]
        more = len(lines) > limit or offset + len(content) < size
        return Page[LogLine](items=shown, has_more=bool(shown) and more)

    def _cut_off(self) -> bool:
        """Tell whether the last line has no end, as one that a killed process wrote may have."""
        try:
            with self._artifacts.open(self._key) as file:
                if not file.seek(0, os.SEEK_END):
                    return False
                file.seek(-1, os.SEEK_END)
                return file.read() != b"\n"
        except ArtifactMissingError:
            return False


def _read_back(file: BinaryIO, count: int) -> tuple[int, bytes]:
    """Return what holds the last `count` lines of `file`, and the offset where it begins."""
    start, content = file.seek(0, os.SEEK_END), b""
    while start and content.count(b"\n") <= count and len(content) < _MOST_BYTES:
        step = min(_BLOCK, start)
        start = file.seek(start - step)
        content = file.read(step) + content
    return start, content


def _lines(content: bytes, *, start: int) -> Iterator[LogLine]:
    """Yield the lines of `content`, which begins at the offset `start`; the last must have an end.

    What fills a whole look without any end is a line by itself.
    """
    *lines, rest = content.split(b"\n")
    end = start
    for line in lines:
        end += len(line) + 1
        yield LogLine(end=end, text=line.decode(errors="replace"))
    if not lines and len(rest) == _MOST_BYTES:
        yield LogLine(end=end + len(rest), text=rest.decode(errors="replace"))


def _shortened(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…"
