"""Writes a changed copy of a file and, as it goes, the unified diff of the two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

_PIECE = 2**20
_UNENDED = b"\n\\ No newline at end of file\n"


class Copy:
    """A copy of a file, made in the file's order; memory is bounded by what one call is given.

    The diff is in the unified format without context (GNU diffutils, "Detailed
    Description of Unified Format"), less the two lines that name the files.
    """

    def __init__(self, target: BinaryIO, diff: BinaryIO | None) -> None:
        """Write the copy to `target` and, where it is asked for, the difference to `diff`."""
        self._target, self._diff = target, diff
        self._old = self._new = 0
        self.begun = False
        """Whether the copy has any byte yet."""

    def keep(self, data: bytes) -> None:
        """Take over `data`: whole lines, or a part of one."""
        self.add(data)
        lines = data.count(b"\n")
        self._old += lines
        self._new += lines

    def replace(self, old: bytes, new: bytes) -> None:
        """Write `new`, which is a line or nothing, for the lines `old`."""
        self.add(new)
        before, after = _lines(old), _lines(new)
        if self._diff is not None:
            self._diff.write(self._head(len(before), len(after)))
            for mark, lines in ((b"-", before), (b"+", after)):
                self._diff.writelines(mark + line for line in lines)
        self._old += len(before)
        self._new += len(after)

    def add(self, data: bytes) -> None:
        """Write `data` to the copy alone."""
        self._target.write(data)
        self.begun = self.begun or bool(data)

    def compare(self, original: BinaryIO) -> None:
        """Write the diff for a copy that has nothing of `original` in its place."""
        if self._diff is None:
            return
        self._diff.write(self._head(_count(original), _count(self._target)))
        for mark, file in ((b"-", original), (b"+", self._target)):
            file.seek(0)
            for piece, begins, ends in _pieces(file):
                self._diff.write(mark * begins + piece)
                if ends and not piece.endswith(b"\n"):
                    self._diff.write(_UNENDED)

    def discard(self) -> None:
        """Empty the copy and the diff."""
        for file in (self._target, self._diff):
            if file is not None:
                file.seek(0)
                file.truncate()

    def _head(self, before: int, after: int) -> bytes:
        """Return the head of a hunk; of no lines, the number is that of the line before."""
        old, new = self._old + bool(before), self._new + bool(after)
        return b"@@ -%d,%d +%d,%d @@\n" % (old, before, new, after)


def _lines(data: bytes) -> list[bytes]:
    """Return the lines of `data` as a diff has them."""
    lines = [line + b"\n" for line in data.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last + _UNENDED] if last else lines


def _pieces(file: BinaryIO) -> Iterator[tuple[bytes, bool, bool]]:
    """Yield parts of the lines of `file`, with whether a line begins and whether it ends there."""
    begins, piece = True, file.readline(_PIECE)
    while piece:
        following = file.readline(_PIECE)
        ends = piece.endswith(b"\n") or not following
        yield piece, begins, ends
        begins, piece = ends, following


def _count(file: BinaryIO) -> int:
    """Return the number of lines in `file`, the last of which may have no end."""
    file.seek(0)
    return sum(ends for _, _, ends in _pieces(file))
