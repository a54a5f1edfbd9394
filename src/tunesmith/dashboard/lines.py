"""Single lines of a file, read from its beginning as far as is needed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from tunesmith.dashboard.door import Door, RefusedError, quoted

_MOST_BYTES = 64 * 1024 * 1024
"""Bytes of a file that are read for its lines."""
_SHOWN = 700
"""Characters of a line that are shown."""


async def lines_of(door: Door, file_id: str, *, wanted: Collection[int]) -> dict[int, str]:
    """Return the lines `wanted` of a file, from 1, with those before and after each.

    A file that is no text, or whose lines lie too far behind, gives none.
    """
    if not wanted:
        return {}
    try:
        async with door.opened(f"/files/{quoted(file_id)}/content") as stream:
            return await picked(stream.iter_bytes(), wanted)
    except RefusedError:
        return {}


async def picked(pieces: AsyncIterator[bytes], wanted: Collection[int]) -> dict[int, str]:
    """Return the lines `wanted` of what comes in `pieces`, with their neighbours, shortened."""
    asked = {near for line in wanted for near in (line - 1, line, line + 1)}
    last = max(asked)
    found: dict[int, str] = {}
    number, rest, read = 1, b"", 0
    async for piece in pieces:
        read += len(piece)
        if b"\0" in piece:
            return {}
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            if number in asked:
                found[number] = _shown(line)
            number += 1
        # Of a very long line, no more is kept than is shown.
        rest = rest[: 8 * _SHOWN]
        if number > last or read > _MOST_BYTES:
            return found
    if number in asked and rest:
        found[number] = _shown(rest)
    return found


def _shown(line: bytes) -> str:
    # A character takes up to four bytes.
    text = line[: 4 * _SHOWN].decode("utf-8", errors="replace").rstrip("\r")
    return text if len(line) <= _SHOWN else f"{text[:_SHOWN]} …"
