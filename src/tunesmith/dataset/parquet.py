"""Reads Parquet row by row, through a process of its own that may break on a hostile file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from tunesmith.dataset.problems import Problem, Rule
from tunesmith.dataset.rows import Row, read_lines
from tunesmith.dataset.tables import Cells

MAGIC = b"PAR1"
"""The bytes with which a Parquet file begins."""

_SCRIPT = str(Path(__file__).with_name("parquet_lines.py"))
# What the process itself may say of a row, besides that it is no JSON, which a breakdown makes.
_OF_A_ROW = frozenset({Rule.ROW_TOO_LONG, Rule.NESTED_TOO_DEEPLY})


def parquet_rows(file: BinaryIO, head: bytes) -> Iterator[Row | Problem]:
    """Yield each row of `file`, of which `head` was read, or what is wrong with it.

    Rows count as lines, from 1. A file that is no plain file (a download, a packed
    file) is copied to a temporary one first, since Parquet is read from its end.
    """
    with _plain_file(file, head) as descriptor, _reader(descriptor) as process:
        try:
            yield from _rows(process)
        finally:
            process.kill()


@contextmanager
def _plain_file(file: BinaryIO, head: bytes) -> Iterator[int]:
    descriptor = _descriptor(file, len(head))
    if descriptor is not None:
        yield descriptor
        return
    with tempfile.TemporaryFile() as copy:
        copy.write(head)
        shutil.copyfileobj(file, copy)
        copy.flush()
        yield copy.fileno()


def _descriptor(file: BinaryIO, position: int) -> int | None:
    """Return the descriptor of `file` if that is a plain file which was read to `position`."""
    try:
        descriptor = file.fileno()
        whole = file.seekable() and file.tell() == position
    except (OSError, AttributeError):
        return None
    return descriptor if whole else None


def _reader(descriptor: int) -> subprocess.Popen[bytes]:
    # -P keeps the modules of this folder from being taken for others of their names. Arrow's
    # other allocators reserve more than they use, which the bound on memory would count.
    return subprocess.Popen(  # noqa: S603  our own script
        [sys.executable, "-P", _SCRIPT],
        stdin=descriptor,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system"},
    )


def _rows(process: subprocess.Popen[bytes]) -> Iterator[Row | Problem]:
    lines = cast("BinaryIO", process.stdout)
    cells: Cells | None = None
    number = 0
    for item in read_lines(lines, number=1):
        if isinstance(item, Problem):
            if item.rule not in _OF_A_ROW:
                break
            yield item
        elif isinstance(item.value, dict):
            cells = cells or Cells(item.value.keys())
            yield cells.row(item.line, item.value)
        elif isinstance(item.value, str):
            yield _invalid(item.line, item.value)
        elif isinstance(item.value, list):
            rule, message = item.value
            yield _invalid(item.line, message, rule=Rule(rule), last=True)
            return
        number = item.line
    if process.wait():
        yield _invalid(number + 1, "the file is damaged", last=True)


def _invalid(
    line: int, complaint: str, *, rule: Rule = Rule.INVALID_PARQUET, last: bool = False
) -> Problem:
    message = f"Row {line}: {complaint}. Write the file again, or as JSON Lines."
    return Problem(line=line, pointer="", rule=rule, last=last, message=message)
