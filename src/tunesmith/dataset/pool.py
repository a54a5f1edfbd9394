"""Inspects blocks in processes of their own, so that all processors take part."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass

from tunesmith.dataset.blocks import BLOCK, Block
from tunesmith.dataset.formats import Format
from tunesmith.dataset.inspection import Inspector, Part

_AHEAD = 2
"""Blocks for each other process that are read before it asks for them."""


@dataclass(frozen=True, slots=True)
class Workers:
    """The processes that inspect one file."""

    count: int = 1
    """How many they are, with the one that asks."""
    fork: bool = False
    """Whether they are copies of the one that asks, which begin at once.

    For a process that has no thread of its own or of a library which could hold a lock.
    """


def inspect_together(
    found: Iterator[Block], inspector: Inspector, *, workers: Workers, descriptor: int | None = None
) -> Generator[Part]:
    """Yield the part of each block in order, inspected by `workers`, of at least two.

    Where the file's `descriptor` is given, the others, copies of this process, read their blocks
    from it by themselves, which spares the way through a pipe.

    This process is one of them: it inspects the first blocks, which tell the format, and what
    the others are too busy for. They end when the iterator is closed, and when this process dies.
    """
    others = workers.count - 1
    with ProcessPoolExecutor(
        others,
        mp_context=multiprocessing.get_context("fork" if workers.fork else "spawn"),
        initializer=_begin,
        initargs=(inspector,),
    ) as pool:
        if workers.fork:
            # Before this process reads anything, and has more that would be copied.
            pool.submit(int).result()
        settled: Format | None = None
        waiting: deque[Future[Part]] = deque()
        try:
            for block in found:
                busy = sum(not part.done() for part in waiting) >= _AHEAD * others
                if settled is not None and not busy and len(block.data) >= BLOCK:
                    waiting.append(pool.submit(_inspect, _told(block, descriptor), settled))
                else:
                    part = inspector.inspect_block(block, settled=settled)
                    settled = settled or part.format
                    waiting.append(Future())
                    waiting[-1].set_result(part)
                while waiting and waiting[0].done():
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class _Worker:
    """What a worker process inspects with, set once when it begins."""

    inspector: Inspector


def _begin(inspector: Inspector) -> None:
    # Each process has a processor to itself; threads in each would contend for them.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _Worker.inspector = inspector
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End with the parent, from whom a killed process' pipes would not tell."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a block stands, in place of its bytes."""

    descriptor: int
    line: int
    begin: int
    size: int

    def block(self) -> Block:
        # Leaves alone where the file is read next, which all copies share.
        return Block(self.line, os.pread(self.descriptor, self.size, self.begin), self.begin)


def _told(block: Block, descriptor: int | None) -> Block | _Place:
    if descriptor is None:
        return block
    return _Place(descriptor, block.line, block.begin, len(block.data))


def _inspect(told: Block | _Place, settled: Format) -> Part:
    block = told.block() if isinstance(told, _Place) else told
    return _Worker.inspector.inspect_block(block, settled=settled)
