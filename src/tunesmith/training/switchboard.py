"""How the driver of a run and its workers reach each other: an actor of Ray's."""

from __future__ import annotations

import asyncio


class Switchboard:
    """Knows where the ranks are, and passes on a stop."""

    def __init__(self) -> None:
        """Know of nobody yet."""
        self._nodes: dict[int, str] = {}
        self._asked = asyncio.Event()
        self._left = asyncio.Event()

    async def begin(self) -> None:
        """Know of nobody any more, since new ranks are started."""
        self._nodes.clear()

    async def arrive(self, rank: int, node: str) -> None:
        """Note that `rank` is on `node`."""
        self._nodes[rank] = node

    async def nodes(self) -> dict[int, str]:
        """Return the node of each rank that has arrived."""
        return self._nodes

    async def stop(self) -> None:
        """Ask the first rank to end, and return when it has, or at once if it never arrived."""
        self._asked.set()
        if 0 in self._nodes:
            await self._left.wait()

    async def asked(self) -> None:
        """Return when the first rank is asked to end."""
        await self._asked.wait()

    async def leave(self) -> None:
        """Note that the first rank has saved what is to be saved."""
        self._left.set()
