"""One line of the receipt is found without reading the others."""

from __future__ import annotations

import io

import pyarrow as pa
import pytest
from pyarrow import parquet

from tunesmith.artifacts.receipts import ROWS_PER_GROUP, SCHEMA, LineReceipt, read_line

COUNT = 3 * ROWS_PER_GROUP


class Counting(io.BytesIO):
    """Counts the bytes that are read."""

    read_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.read_bytes += len(data)
        return data


def row(file: str, line: int, *, text: int = 1, element: int = 0) -> dict[str, object]:
    return {
        "file": file,
        "line": line,
        "element": element,
        "text": text,
        "split": "train",
        "tokens": 2000,
        "tokens_learnt": 1,
        "cut": False,
        "end_learnt": True,
        # Random enough that compression leaves most of it.
        "token_ids": [(line * 7919 + at * at * 104729) % 50021 for at in range(2000)],
        "pieces": ["a"] * 2000,
        "learnt": [False] * 1999 + [True],
    }


@pytest.fixture(scope="module")
def table() -> bytes:
    rows = [row("training", line) for line in range(1, COUNT)]
    rows += [row("training", COUNT, text=text) for text in (1, 2)]
    rows += [row("validation", line) for line in range(1, 6)]
    content = io.BytesIO()
    parquet.write_table(
        pa.Table.from_pylist(rows, schema=SCHEMA), content, row_group_size=ROWS_PER_GROUP
    )
    return content.getvalue()


def test_a_line_is_found_by_file_and_number(table: bytes) -> None:
    [training] = read_line(io.BytesIO(table), "training", line=3)
    [validation] = read_line(io.BytesIO(table), "validation", line=3)

    assert (training.file, training.line, training.tokens) == ("training", 3, 2000)
    assert training.token_ids is not None
    assert training.token_ids[0] == 3 * 7919
    assert (validation.file, validation.line) == ("validation", 3)


def test_all_texts_of_a_line_are_returned_across_row_groups(table: bytes) -> None:
    assert [found.text for found in read_line(io.BytesIO(table), "training", line=COUNT)] == [1, 2]


@pytest.mark.parametrize(("file", "line"), [("training", COUNT + 1), ("validation", 6), ("no", 1)])
def test_a_line_that_is_not_there_is_none(table: bytes, file: str, line: int) -> None:
    assert read_line(io.BytesIO(table), file, line=line) == []


def test_only_the_row_groups_that_may_hold_the_line_are_read(table: bytes) -> None:
    stream = Counting(table)

    read_line(stream, "training", line=5)

    assert stream.read_bytes < len(table) / 2


def test_each_column_is_a_field_and_each_field_a_column() -> None:
    assert list(LineReceipt.model_fields) == SCHEMA.names
