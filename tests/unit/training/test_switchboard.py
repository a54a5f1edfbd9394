"""What driver and workers hear of each other; Ray runs the same object as an actor."""

from __future__ import annotations

import asyncio

from tunesmith.training.switchboard import Switchboard


def test_a_stop_reaches_the_first_rank_and_waits_until_it_has_left() -> None:
    async def act() -> list[str]:
        board, told = Switchboard(), list[str]()

        async def first_rank() -> None:
            await board.asked()
            told.append("saved")
            await board.leave()

        await board.arrive(0, "here")
        rank = asyncio.create_task(first_rank())
        await asyncio.wait_for(board.stop(), timeout=10)
        told.append("stopped")
        await rank
        return told

    assert asyncio.run(act()) == ["saved", "stopped"]


def test_where_no_first_rank_has_arrived_a_stop_waits_for_nobody() -> None:
    async def act() -> dict[int, str]:
        board = Switchboard()
        await board.arrive(1, "there")
        await asyncio.wait_for(board.stop(), timeout=10)
        # One that arrives later is told at once.
        await asyncio.wait_for(board.asked(), timeout=10)
        return await board.nodes()

    assert asyncio.run(act()) == {1: "there"}
