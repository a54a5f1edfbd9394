"""Reads the rows of a file, whatever contains them: JSON, CSV or Parquet, packed or not.

What it is, its first bytes tell: those of gzip (RFC 1952), zstd (RFC 8878) and
Parquet; then a first line that is the header of a table (RFC 4180) in a known
format; all else is JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedReader
from typing import BinaryIO, cast

from tunesmith.dataset.parquet import MAGIC, parquet_rows
from tunesmith.dataset.problems import Problem
from tunesmith.dataset.rows import CHUNK_SIZE, MAX_ROW_SIZE, Row, text_rows
from tunesmith.dataset.tables import csv_names, csv_rows
from tunesmith.dataset.unpacking import PackedError, Packing, Unpacked


def read_rows(file: BinaryIO) -> Iterator[Row | Problem]:
    """Yield each row of `file`, or what is wrong with it, in order.

    Memory is bounded by one row and a chunk. Nothing is raised for bad content.
    Lines are those of the unpacked text; a Parquet file's rows count as lines.
    """
    head = file.readline(MAX_ROW_SIZE + 1)
    packing = Packing.of(head)
    if packing is None:
        yield from _unpacked_rows(file, head)
        return
    unpacked = Unpacked(file, head, packing=packing)
    try:
        text = cast("BinaryIO", BufferedReader(unpacked, CHUNK_SIZE))
        yield from _unpacked_rows(text, text.readline(MAX_ROW_SIZE + 1))
    except PackedError as error:
        line = unpacked.line
        message = f"Line {line}: {error}"
        yield Problem(line=line, pointer="", rule=error.rule, last=True, message=message)


def _unpacked_rows(file: BinaryIO, head: bytes) -> Iterator[Row | Problem]:
    if head.startswith(MAGIC):
        return parquet_rows(file, head)
    names = csv_names(head)
    return csv_rows(file, names) if names else text_rows(file, head)
