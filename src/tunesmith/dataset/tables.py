"""Reads CSV (RFC 4180) row by row; what a table's cells cannot hold, they hold as JSON text.

The first row names the keys. Cells of keys whose values are no texts (such as
`messages`) are JSON; an empty one is an absent key.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping
from typing import BinaryIO

from tunesmith.dataset.formats import Format, format_of
from tunesmith.dataset.pairs import PREFERRED
from tunesmith.dataset.problems import Problem, Rule, place
from tunesmith.dataset.rows import MAX_ROW_SIZE, Decoder, Row, line_row, too_long

_JSON_KEYS: dict[Format, frozenset[str]] = {
    Format.CHAT: frozenset({"messages", "tools", "functions", "parallel_tool_calls"}),
    Format.SHAREGPT: frozenset({"conversations", "tools"}),
    Format.ALPACA: frozenset({"history"}),
    Format.PREFERENCE: PREFERRED | {"input"},
    Format.RANKING: frozenset({"conversations", "tools", "history"}),
    Format.RERANK: frozenset({"pos", "neg"}),
}
# Beside a conversation an answer is a turn, that is JSON; elsewhere it is a text.
_TURNS = frozenset({"chosen", "rejected"})

# The module's own bound is 128 KiB for each cell; rows are bounded here.
csv.field_size_limit(MAX_ROW_SIZE)


class Cells:
    """Makes the rows of a table from its cells."""

    def __init__(self, names: Collection[str]) -> None:
        """Take the `names` of the columns."""
        found = format_of(names)
        self._json = _JSON_KEYS.get(found, frozenset()) if found else frozenset()
        self._turns = _TURNS if "conversations" in names else frozenset()
        self._decoder = Decoder()

    def row(self, line: int, cells: Mapping[str, object]) -> Row | Problem:
        """Return the row of `cells`, which stands on `line`, or the first that is wrong with it."""
        value: dict[str, object] = {}
        for name, cell in cells.items():
            if not isinstance(cell, str) or not self._is_json(name, cell):
                value[name] = cell
            elif cell.strip():
                found = line_row(self._decoder, cell.strip().encode(), number=1)
                if isinstance(found, Problem):
                    return _bad_cell(line, name, complaint=found)
                value[name] = found.value
        return Row(line, value)

    def _is_json(self, name: str, cell: str) -> bool:
        return name in self._json or (name in self._turns and cell.lstrip().startswith("{"))


def csv_names(head: bytes) -> list[str] | None:
    """Return the names in `head`, a file's first line, if it is the header of a known format."""
    try:
        [names] = csv.reader([head.decode("utf-8-sig")], strict=True)
    except (UnicodeDecodeError, ValueError, csv.Error):
        return None
    names = [name.strip() for name in names]
    return names if format_of(names) else None


def csv_rows(file: BinaryIO, names: list[str]) -> Iterator[Row | Problem]:
    """Yield each row of `file`, whose header with `names` was read, or what is wrong with it."""
    twin = next((name for name in names if names.count(name) > 1), None)
    if twin is not None:
        message = f"Line 1: the column {twin[:40]!a} occurs twice. Remove one."
        yield Problem(line=1, pointer="", rule=Rule.DUPLICATE_KEY, last=True, message=message)
        return
    lines = _Lines(file)
    table = csv.reader(lines, strict=True)
    cells = Cells(names)
    while True:
        line = lines.begin()
        try:
            found = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            yield _invalid(line, str(error))
        except _TooLongError:
            yield too_long(line)
        else:
            if lines.undecodable:
                yield lines.undecodable
            elif found and len(found) != len(names):
                yield _invalid(line, f"{len(found)} cells, but the header has {len(names)}")
            elif found:
                yield cells.row(line, dict(zip(names, found, strict=True)))


class _TooLongError(Exception):
    """A row is longer than any that is read."""


class _Lines(Iterator[str]):
    """The lines behind the header, counted, and bounded for each row."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._number, self._size = 1, 0
        self.undecodable: Problem | None = None
        """The first byte of the row that is not UTF-8."""

    def begin(self) -> int:
        """Begin a row; return its line."""
        self._size, self.undecodable = 0, None
        return self._number + 1

    def __next__(self) -> str:
        line = self._file.readline(MAX_ROW_SIZE + 1)
        if not line:
            raise StopIteration
        self._number += 1
        self._size += len(line)
        if self._size > MAX_ROW_SIZE:
            while line and not line.endswith(b"\n"):
                line = self._file.readline(MAX_ROW_SIZE)
            raise _TooLongError
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            self.undecodable = self.undecodable or self._bad_byte(line, error.start)
            # The row is read to its end, so that the next one begins where it does.
            return line.decode(errors="replace")

    def _bad_byte(self, line: bytes, at: int) -> Problem:
        column = len(line[:at].decode()) + 1
        where = f"Line {self._number}, column {column}"
        message = f"{where}: the byte 0x{line[at]:02x} is not UTF-8 here. Save the file as UTF-8."
        return Problem(line=self._number, pointer="", rule=Rule.NOT_UTF8, message=message)


def _invalid(line: int, complaint: str) -> Problem:
    mend = "Put cells with commas, quotes or line breaks in quotes, and double quotes in them."
    message = f"Line {line}: not a row of the table ({complaint}). {mend}"
    return Problem(line=line, pointer="", rule=Rule.INVALID_CSV, message=message)


def _bad_cell(line: int, name: str, *, complaint: Problem) -> Problem:
    pointer = f"/{name}"
    where = place(line, 0, pointer=pointer)
    message = f"{where}: the cell's JSON cannot be read. {complaint.message}"
    ended = complaint.rule is Rule.PRETTY_PRINTED
    rule = Rule.INVALID_JSON if ended else complaint.rule
    return Problem(line=line, pointer=pointer, rule=rule, message=message)
