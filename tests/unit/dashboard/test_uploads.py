"""What the browser uploads is kept as it comes, and no more of it than the service takes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import pytest

from tunesmith.dashboard.door import RefusedError
from tunesmith.dashboard.uploads import keep


class Watched(BytesIO):
    """A file that knows which threads wrote to it."""

    threads: set[int]

    def write(self, data: Any, /) -> int:
        self.threads = {*getattr(self, "threads", ()), threading.get_ident()}
        return super().write(data)


async def pieces(count: int, size: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number % 256]) * size


def test_pieces_are_kept_in_order_by_other_threads() -> None:
    content = Watched()

    asyncio.run(keep(pieces(100, 40_000), content, most=4_000_000))

    assert content.getvalue() == b"".join(bytes([n]) * 40_000 for n in range(100))
    assert threading.get_ident() not in content.threads


def test_what_is_too_large_is_refused_before_it_is_written() -> None:
    content = BytesIO()

    with pytest.raises(RefusedError) as refused:
        asyncio.run(keep(pieces(1_000_000, 40_000), content, most=3_000_000))

    assert refused.value.status == 413
    assert "3,000,000 bytes" in refused.value.message
    assert len(content.getvalue()) <= 3_000_000
