"""Makes a repaired copy of a training file where the mend is mechanical, as a stream.

What a broken row means nobody knows, so that it stays as it is, letter by letter. The
copy of a copy is the same again, and never worse to read than the original: where
that cannot be had, nothing is changed at all.
"""

from __future__ import annotations

import codecs
import re
from io import SEEK_END
from typing import BinaryIO

from tunesmith.dataset.copying import Copy
from tunesmith.dataset.mending import Mend, Mending
from tunesmith.dataset.parquet import MAGIC
from tunesmith.dataset.problems import Problem, Rule
from tunesmith.dataset.rows import (
    BLANK,
    CHUNK_SIZE,
    MAX_ROW_SIZE,
    Decoder,
    array_rows,
    line_row,
    other_encoding,
)
from tunesmith.dataset.tables import csv_names
from tunesmith.dataset.unpacking import Packing
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.repair import RepairReport

_BLANK = BLANK.encode()
_BOM = codecs.BOM_UTF8
# No line break can be part of a JSON string.
_BREAK = re.compile(rb"[ \t\r]*\n[ \t\r\n]*")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_WHOLE = (Rule.DUPLICATE_KEY, Rule.NUMBER_TOO_LONG)
"""What may be wrong with a row whose end is known all the same."""


class _NothingDoneError(Exception):
    """The file has to stay as it is."""


def repair(file: BinaryIO, target: BinaryIO, *, diff: BinaryIO | None = None) -> RepairReport:
    """Write the repaired copy of `file` to `target`, and its unified diff to `diff`.

    `target` and `diff` are empty, and can be read and truncated; `diff` gets no
    lines that name the files. Where nothing is mended, `target` has the same bytes
    as `file`, or none. Memory is bounded by a row of 16 MiB and 100 bytes an
    example. Raises `InvalidRequestError` for a file that is no JSON.
    """
    copy, mending = Copy(target, diff), Mending()
    try:
        if _is_array(file):
            _mend_array(file, copy, mending=mending)
        else:
            _Lines(file, copy, mending=mending).mend()
    except _NothingDoneError:
        mending.examples = 0
    if mending.examples:
        return mending.report()
    copy.discard()
    return mending.report_nothing_done()


def _is_array(file: BinaryIO) -> bool:
    """Tell whether `file` is a JSON array, not JSON lines, and go back to its beginning."""
    head = file.readline(MAX_ROW_SIZE + 1)
    if Packing.of(head) or head.startswith(MAGIC) or csv_names(head):
        raise InvalidRequestError(
            "Only JSON and JSON Lines that are not packed can be repaired; the file is a table or "
            "packed. Unpack it, or write it as JSON Lines.",
            param="file_id",
            code="file_not_repairable",
        )
    while head and not _bare(head).strip(_BLANK):
        head = file.readline(MAX_ROW_SIZE + 1)
    file.seek(0)
    return _bare(head).lstrip(_BLANK).startswith(b"[")


def _bare(line: bytes) -> bytes:
    """Return `line` without the byte order marks at its beginning."""
    while line.startswith(_BOM):
        line = line.removeprefix(_BOM)
    return line


def _check_beginning(copy: Copy, line: bytes) -> None:
    """Raise `_NothingDoneError` where the copy would begin with `line` and be no JSON Lines."""
    if copy.begun or line.lstrip(_BLANK).startswith(b"{"):
        return
    odd = Packing.of(line) or line.startswith(MAGIC) or csv_names(line) or other_encoding(line)
    if odd or line.lstrip(_BLANK).startswith(b"["):
        raise _NothingDoneError


def _mend_array(file: BinaryIO, copy: Copy, *, mending: Mending) -> None:
    """Put each element of the array in `file` on a line of its own."""
    number, head = 1, file.readline(MAX_ROW_SIZE + 1)
    if head.startswith(_BOM):
        mending.note(Mend.BYTE_ORDER_MARK, 1)
    while not _bare(head).strip(_BLANK):
        head = file.readline(MAX_ROW_SIZE + 1)
        number += 1
    mending.note(Mend.JSON_ARRAY, number)
    for row, text in array_rows(file, _bare(head), number=number):
        kept = mending.row(row, _BREAK.sub(b" ", text.encode()).decode())
        if isinstance(row, Problem) and row.last:
            raise _NothingDoneError
        if kept is not None:
            line = kept.encode() + b"\n"
            _check_beginning(copy, line)
            copy.add(line)
    copy.compare(file)


class _Lines:
    """Mends JSON lines, one after the other."""

    def __init__(self, file: BinaryIO, copy: Copy, *, mending: Mending) -> None:
        self._file, self._copy, self._mending = file, copy, mending
        self._decoder = Decoder()
        self._number = 0

    def mend(self) -> None:
        """Go through the whole file."""
        while line := self._file.readline(MAX_ROW_SIZE + 1):
            self._number += 1
            if len(line) > MAX_ROW_SIZE:
                self._keep_long(line)
            else:
                self._mend_line(line)

    def _keep_long(self, line: bytes) -> None:
        self._mending.leave(Rule.ROW_TOO_LONG)
        self._keep(line)
        while line and not line.endswith(b"\n"):
            line = self._file.readline(CHUNK_SIZE)
            self._keep(line)

    def _mend_line(self, line: bytes) -> None:
        number, bare = self._number, _bare(line)
        if not bare.strip(_BLANK):
            self._mending.note(Mend.BLANK_LINE, number)
            self._copy.replace(line, b"")
            return
        if not self._copy.begun and other_encoding(bare):
            self._mending.leave(Rule.NOT_UTF8)
            raise _NothingDoneError
        row = line_row(self._decoder, bare.strip(_BLANK), number=number)
        if isinstance(row, Problem) and row.rule is Rule.PRETTY_PRINTED:
            self._mend_object(line)
            return
        body, end = _split(bare)
        # Bytes that are no UTF-8 are of a row that is kept, and come back as they were.
        kept = self._mending.row(row, body.decode(errors="surrogateescape"))
        if kept is None:
            self._copy.replace(line, b"")
            return
        if bare.endswith(b"\r\n"):
            self._mending.note(Mend.CRLF, number)
        self._write(line, kept.encode(errors="surrogateescape") + end, number=number)

    def _mend_object(self, line: bytes) -> None:
        """Put the object that begins with `line` on one line, or keep all that follows."""
        number, lines, size, depth = self._number, [line], len(line), _depth(line)
        while depth > 0 and size <= MAX_ROW_SIZE and lines[-1]:
            lines.append(self._file.readline(MAX_ROW_SIZE + 1))
            size += len(lines[-1])
            depth += _depth(lines[-1])
        old = b"".join(lines)
        body, end = _split(_bare(old))
        text = _BREAK.sub(b" ", body)
        row = line_row(self._decoder, text.strip(_BLANK), number=number)
        if size > MAX_ROW_SIZE or (isinstance(row, Problem) and row.rule not in _WHOLE):
            self._keep_rest(old)
            return
        self._number += old.count(b"\n") - 1 if end else old.count(b"\n")
        kept = self._mending.row(row, text.decode())
        if kept is None:
            self._copy.replace(old, b"")
            return
        self._mending.note(Mend.PRETTY_PRINTED, number)
        self._write(old, kept.encode() + end, number=number)

    def _keep_rest(self, data: bytes) -> None:
        """Keep `data` and the rest of the file, which the check cannot read either."""
        self._mending.leave(Rule.PRETTY_PRINTED)
        while data:
            self._keep(data)
            data = self._file.read(CHUNK_SIZE)
        self._file.seek(0, SEEK_END)

    def _write(self, old: bytes, new: bytes, *, number: int) -> None:
        """Write `new` for the lines `old`, which begin on line `number`."""
        if old.startswith(_BOM):
            self._mending.note(Mend.BYTE_ORDER_MARK, number)
        if new == old:
            self._keep(old)
            return
        _check_beginning(self._copy, new)
        self._copy.replace(old, new)

    def _keep(self, data: bytes) -> None:
        _check_beginning(self._copy, data)
        self._copy.keep(data)


def _split(data: bytes) -> tuple[bytes, bytes]:
    """Return `data` without its end of line, and the end that it is to have."""
    if not data.endswith(b"\n"):
        return data, b""
    return data.rstrip(b"\r\n"), b"\n"


def _depth(line: bytes) -> int:
    """Return by how much deeper brackets are nested behind `line` than before it."""
    rest = _STRING.sub(b"", line)
    opened = rest.count(b"{") + rest.count(b"[")
    return opened - rest.count(b"}") - rest.count(b"]")
