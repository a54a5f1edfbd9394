"""Inspects blocks in processes of their own, so that all processors take part."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor

from tunesmith.dataset.blocks import Block
from tunesmith.dataset.formats import Format
from tunesmith.dataset.inspection import Inspector, Part

_AHEAD = 2
"""Blocks for each other process that are read before it asks for them."""


def inspect_aside(
    found: Iterator[Block], inspector: Inspector, *, settled: Format, workers: int
) -> Generator[Part]:
    """Yield the part of each block in order, inspected by `workers` processes, of at least two.

    This process is one of them: it inspects what the others are too busy for, as they are
    while they begin. They end when the iterator is closed, and when this process dies.
    """
    others = workers - 1
    # Forking would copy threads' locks in whatever state they are.
    with ProcessPoolExecutor(
        others,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(inspector, settled),
    ) as pool:
        waiting: deque[Future[Part]] = deque()
        try:
            for block in found:
                if sum(not part.done() for part in waiting) < _AHEAD * others:
                    waiting.append(pool.submit(_inspect, block))
                else:
                    waiting.append(Future())
                    waiting[-1].set_result(inspector.inspect_block(block, settled=settled))
                while waiting and waiting[0].done():
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class _Worker:
    """What a worker process inspects with, set once when it begins."""

    inspector: Inspector
    settled: Format


def _begin(inspector: Inspector, settled: Format) -> None:
    # Each process has a processor to itself; threads in each would contend for them.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _Worker.inspector, _Worker.settled = inspector, settled
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End with the parent, from whom a killed process' pipes would not tell."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _inspect(block: Block) -> Part:
    return _Worker.inspector.inspect_block(block, settled=_Worker.settled)
