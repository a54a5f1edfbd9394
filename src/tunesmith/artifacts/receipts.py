"""The receipt's table, `receipt.parquet`: what a run made of each line of its files.

A row for each text that a line is learnt as, or for a line that was set aside;
sorted by file, line and element, in small row groups, so that a reader finds
one line by the groups' statistics without reading the others.
"""

from __future__ import annotations

from typing import Any, BinaryIO, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from tunesmith.domain.values import Value

ROWS_PER_GROUP = 256
"""Rows that are read at once to show one of them."""

SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("line", pa.int64()),
        ("element", pa.int64()),
        ("text", pa.int32()),
        ("side", pa.string()),
        ("split", pa.string()),
        ("tokens", pa.int32()),
        ("tokens_learnt", pa.int32()),
        ("cut", pa.bool_()),
        ("end_learnt", pa.bool_()),
        ("rule", pa.string()),
        ("reason", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("pieces", pa.list_(pa.string())),
        ("learnt", pa.list_(pa.bool_())),
    ]
)
"""Columns of the table; each is explained at `LineReceipt`."""

TOKEN_COLUMNS = ("token_ids", "pieces", "learnt")
"""The columns that `receipt.jsonl` leaves out."""


class LineReceipt(Value):
    """What became of a line, or of one of the texts that it is learnt as."""

    file: Literal["training", "validation"]
    """The file that the line is of."""
    line: int
    """Line on which the example begins, from 1."""
    element: int
    """The example's number in the file's array, from 1; 0 where the file is no array."""
    text: int
    """Which of the line's texts this is, from 1; 0 where the line was set aside."""
    side: Literal["chosen", "rejected", "query", "positive", "negative"] | None
    """Of a preference pair, the answer; of a query with passages, what the text is."""
    split: Literal["train", "held_out"] | None
    """Whether it is learnt from or evaluated on; `None` where it was set aside."""
    tokens: int | None
    """Tokens of the text; `None` where it was set aside, as below."""
    tokens_learnt: int | None
    """Those of them that the loss is taken on."""
    cut: bool | None
    """Whether a part of what is to be learnt lay beyond the maximum length; of a query or a
    passage, whether any part of it did."""
    end_learnt: bool | None
    """Whether the last token learnt is one that ends the answer."""
    rule: str | None
    """Why the line was set aside, as a stable id."""
    reason: str | None
    """The same in words, with the mend."""
    token_ids: tuple[int, ...] | None
    """The text's token ids."""
    pieces: tuple[str, ...] | None
    """What each token stands for; half a character is shown as U+FFFD."""
    learnt: tuple[bool, ...] | None
    """Whether the loss is taken on each token."""


def read_line(
    stream: BinaryIO, file: str, *, line: int, element: int | None = None
) -> list[LineReceipt]:
    """Return what became of `line` of `file`, a receipt for each of its texts; of none, nothing.

    Where a line holds several elements of an array, `element` says which (`None`:
    the first). `stream` is the table, and seekable; the row groups that cannot hold
    the line are not read.
    """
    table = parquet.ParquetFile(stream)
    found: list[dict[str, Any]] = []
    for group in range(table.num_row_groups):
        if _may_hold(table.metadata.row_group(group), file, line=line):
            found += _rows(table.read_row_group(group), file, line=line, element=element)
        elif found:
            break
    first = found[0]["element"] if found else None
    return [LineReceipt(**row) for row in found if row["element"] == first]


def held_out_prompts(stream: BinaryIO, *, most: int) -> list[list[int]]:
    """Return the tokens before what is learnt of the first `most` texts that were held out.

    Of a text that is learnt from its beginning on, it is the first quarter. `stream` is the table.
    """
    table = parquet.ParquetFile(stream)
    found: list[list[int]] = []
    for group in range(table.num_row_groups):
        columns = table.read_row_group(group, columns=["split", "token_ids", "learnt"])
        for row in columns.filter(pc.equal(columns["split"], "held_out")).to_pylist():
            tokens, learnt = row["token_ids"] or [], row["learnt"] or []
            before = learnt.index(True) if True in learnt else 0
            prompt = tokens[: before if before > 1 else len(tokens) // 4]
            if prompt and len(found) < most:
                found.append(prompt)
        if len(found) == most:
            break
    return found


def _may_hold(group: Any, file: str, *, line: int) -> bool:
    files, lines = (group.column(SCHEMA.names.index(name)).statistics for name in ("file", "line"))
    return bool(files.min <= file <= files.max and lines.min <= line <= lines.max)


def _rows(table: Any, file: str, *, line: int, element: int | None) -> list[dict[str, Any]]:
    wanted = pc.and_(pc.equal(table["file"], file), pc.equal(table["line"], line))
    if element is not None:
        wanted = pc.and_(wanted, pc.equal(table["element"], element))
    rows = table.filter(wanted)
    if element is None and len(rows):
        # All elements of an array may stand on one line.
        rows = rows.filter(pc.equal(rows["element"], rows["element"][0]))
    found: list[dict[str, Any]] = rows.to_pylist()
    return found
