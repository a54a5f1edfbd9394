"""Whatever contains the rows, they are read alike, and what is wrong has its place."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunesmith.dataset import parquet_lines
from tunesmith.dataset.containers import read_rows
from tunesmith.dataset.formats import Format
from tunesmith.dataset.problems import Problem, Rule
from tunesmith.dataset.rows import MAX_ROW_SIZE, Row
from unit.dataset.checking import Checked, check

ALPACA = {"instruction": 'say "a", or\nb', "output": "é"}
CHAT = {
    "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": 1}}}],
}
RERANK = {"query": "q", "pos": ["a", "b"], "neg": ["c"]}


def as_lines(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]))
    table.writeheader()
    for row in rows:
        table.writerow(
            {key: cell if isinstance(cell, str) else json.dumps(cell) for key, cell in row.items()}
        )
    return text.getvalue().encode()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def as_zstd(rows: list[dict[str, Any]]) -> bytes:
    return bytes(pa.compress(as_lines(rows), codec="zstd", asbytes=True))


def as_packed_csv(rows: list[dict[str, Any]]) -> bytes:
    return gzip.compress(as_csv(rows))


def read(content: bytes) -> list[Row | Problem]:
    return list(read_rows(io.BytesIO(content)))


def report_on(content: bytes) -> Checked:
    return check(io.BytesIO(content), method=None)


@pytest.mark.parametrize("rows", [[ALPACA] * 40, [CHAT] * 40, [RERANK] * 40])
@pytest.mark.parametrize("write", [as_lines, as_csv, as_parquet, as_zstd, as_packed_csv])
def test_rows_are_the_same_whatever_contains_them(
    rows: list[dict[str, Any]], write: Callable[[list[dict[str, Any]]], bytes]
) -> None:
    found = read(write(rows))
    assert [item.value for item in found if isinstance(item, Row)] == rows
    assert report_on(write(rows)).ok


def test_a_csv_rows_line_is_that_on_which_it_begins() -> None:
    content = b'\xef\xbb\xbfprompt, completion\r\n"a\r\nb",c\r\n\r\nd,e\r\n'
    assert read(content) == [
        Row(2, {"prompt": "a\r\nb", "completion": "c"}),
        Row(5, {"prompt": "d", "completion": "e"}),
    ]


@pytest.mark.parametrize(
    ("row", "rule", "place"),
    [
        (b"a", Rule.INVALID_CSV, "Line 3: "),
        (b"a,b,c", Rule.INVALID_CSV, "Line 3: "),
        (b'"a"b,c', Rule.INVALID_CSV, "Line 3: "),
        (b'"a\nb,\xff",c', Rule.NOT_UTF8, "Line 4, column 3: the byte 0xff"),
        (b"x" * MAX_ROW_SIZE + b",b", Rule.ROW_TOO_LONG, "Line 3: "),
    ],
)
def test_a_bad_csv_row_is_told_by_its_place_and_reading_goes_on(
    row: bytes, rule: Rule, place: str
) -> None:
    first, bad, last = read(b"prompt,completion\na,b\n" + row + b"\nc,d")
    assert isinstance(first, Row)
    assert isinstance(bad, Problem)
    assert bad.rule is rule
    assert bad.message.startswith(place)
    assert isinstance(last, Row)
    assert last.value == {"prompt": "c", "completion": "d"}


def test_a_quote_that_is_never_closed_is_told_by_the_row_that_opens_it() -> None:
    found = read(b'prompt,completion\na,b\n"c,d\ne,f\n')
    assert [item.line for item in found] == [2, 3]
    assert isinstance(found[1], Problem)
    assert found[1].rule is Rule.INVALID_CSV


def test_a_cell_of_bad_json_is_told_by_its_line_and_key() -> None:
    content = b"""messages,tools\n"[{""role"": 1, ""role"": 2}]",\n[,\n"""
    twice, invalid = read(content)
    assert isinstance(twice, Problem)
    assert (twice.line, twice.pointer, twice.rule) == (2, "/messages", Rule.DUPLICATE_KEY)
    assert isinstance(invalid, Problem)
    assert (invalid.line, invalid.pointer) == (3, "/messages")
    assert not invalid.last, "other rows may be good"


def test_a_first_line_that_names_no_formats_keys_is_no_header() -> None:
    [problem] = read(b"a,b\n")
    assert isinstance(problem, Problem)
    assert problem.rule is Rule.INVALID_JSON
    [twin] = read(b"prompt,prompt\na,b\n")
    assert isinstance(twin, Problem)
    assert twin.rule is Rule.DUPLICATE_KEY


def test_parquet_has_null_where_a_key_is_absent_and_json_text_where_it_must() -> None:
    turns = [
        {"role": "user", "content": "q", "tool_calls": None},
        {"role": "assistant", "content": "a", "tool_calls": [{"id": "x"}]},
    ]
    rows = [{"messages": turns, "tools": json.dumps(CHAT["tools"]), "parallel_tool_calls": None}]
    [found] = read(as_parquet(rows))
    assert isinstance(found, Row)
    assert found.value == {
        "messages": [{"role": "user", "content": "q"}, turns[1]],
        "tools": CHAT["tools"],
    }


def test_a_parquet_files_bad_row_is_told_by_its_number_and_reading_goes_on() -> None:
    texts = pa.array([b"a", b"\xff", b"c"], pa.binary())
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), sink)
    first, bad, last = read(sink.getvalue())
    assert first == Row(1, {"text": "a"})
    assert isinstance(bad, Problem)
    assert (bad.line, bad.rule, bad.last) == (2, Rule.INVALID_PARQUET, False)
    assert last == Row(3, {"text": "c"})


@pytest.mark.parametrize("plain", [False, True])
def test_a_damaged_parquet_file_is_told_behind_its_last_good_row(plain: bool) -> None:
    noise = random.Random(1)
    content = bytearray(as_parquet([{"text": noise.randbytes(200).hex()} for _ in range(40)]))
    for bad in (content[:-9], content[:4], b"PAR1" + bytes(40) + b"PAR1"):
        if plain:
            with tempfile.TemporaryFile() as file:
                file.write(bad)
                file.seek(0)
                found = list(read_rows(file))
        else:
            found = read(bytes(bad))
        assert isinstance(found[-1], Problem)
        assert (found[-1].rule, found[-1].last) == (Rule.INVALID_PARQUET, True)
        assert found[-1].line >= 1


def test_a_reader_of_a_few_rows_ends_the_process_behind_them(tmp_path: Path) -> None:
    path = tmp_path / "many.parquet"
    path.write_bytes(as_parquet([{"text": "t" * 100}] * 50_000))
    with path.open("rb") as file:
        rows = read_rows(file)
        assert isinstance(next(rows), Row)
        rows.close()  # type: ignore[attr-defined]


def test_a_parquet_bomb_is_refused_in_bounded_memory() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 5_000, pa.int32()), ["x" * 2**20])
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": column}), sink, compression="zstd")
    assert len(sink.getvalue()) < 2**16
    report = report_on(sink.getvalue())
    assert not report.ok
    assert report.problems[-1].rule == Rule.UNPACKED_TOO_LARGE
    assert report.examples < 100


def test_a_row_that_needs_more_memory_than_the_process_may_have_is_refused() -> None:
    count = parquet_lines.MEMORY // 2**20
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), ["x" * 2**20])
    passages = pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), texts)
    sink = io.BytesIO()
    pq.write_table(pa.table({"query": ["q"], "pos": passages}), sink, compression="zstd")
    assert len(sink.getvalue()) < 2**10
    [problem] = report_on(sink.getvalue()).problems
    assert (problem.line, problem.rule) == (1, Rule.UNPACKED_TOO_LARGE)
    assert "1024 MiB of memory" in problem.message


def test_a_zstd_file_that_is_cut_or_unpacks_beyond_reason_is_refused() -> None:
    packed = as_zstd([ALPACA] * 40)
    for bad in (packed[:-9], packed[:10], packed + b"x"):
        report = report_on(bad)
        assert report.problems[-1].rule == Rule.INVALID_ZSTD
        assert "Pack it again" in report.problems[-1].message
    bomb = bytes(pa.compress(b" " * (70 * 2**20), codec="zstd", asbytes=True))
    assert [item.rule for item in report_on(bomb).problems] == [Rule.UNPACKED_TOO_LARGE]


def test_a_csv_of_published_alpaca_rows_is_of_that_format() -> None:
    assert report_on(as_csv([ALPACA | {"input": ""}] * 10)).format == Format.ALPACA
