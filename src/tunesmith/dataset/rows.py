"""Reads a JSON array or JSON Lines row by row, in constant memory, and names each fault's place.

Whether a text is one array or one object a line is decided by its first byte
that is no blank. JSON is taken as RFC 8259 has it, in UTF-8; `NaN`, `Infinity`
and a key that occurs twice are refused. After a broken line reading goes on
with the next line; a broken array cannot be read beyond the place.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from tunesmith.dataset.problems import Problem, Rule, place

MAX_ROW_SIZE = 16 * 2**20
"""Longest row that is read: bytes of a line, or characters of an array's element."""

CHUNK_SIZE = 2**18
"""Bytes that are read at once from an array."""
_MAX_DIGITS = 4000
# A literal, number or \u escape that the end of a window cuts is complained of at its beginning,
# which is never further than this from the end.
_LONGEST_CUT = 16
BLANK = " \t\r\n"
"""The blanks of JSON (RFC 8259, section 2)."""
_SEPARATORS = (",", "]", *BLANK)
_BLANKS = re.compile(f"[{BLANK}]*")


@dataclass(frozen=True, slots=True)
class Row:
    """One JSON value of the file."""

    line: int
    """Line on which it begins, from 1."""
    value: object
    """The value, decoded."""
    element: int = 0
    """Its number in the array, from 1; 0 where the file is no array."""


def read_lines(file: BinaryIO, *, number: int) -> Iterator[Row | Problem]:
    """Yield each row of a part of JSON Lines, or what is wrong with it; its first is line `number`.

    The part begins where a line does, behind any byte order mark.
    """
    return _line_rows(file, file.readline(MAX_ROW_SIZE + 1), number=number)


def text_rows(file: BinaryIO, line: bytes) -> Iterator[Row | Problem]:
    """Yield each row of `file`, of which the first `line` was read, or what is wrong with it.

    No more than one row and a chunk is held in memory. Nothing is raised for bad content.
    """
    number, head = 1, line.removeprefix(codecs.BOM_UTF8)
    while line and not head.strip():
        head = line = file.readline(MAX_ROW_SIZE + 1)
        number += 1
    encoding = other_encoding(line)
    if encoding:
        message = f"The file is in {encoding}. Save it as UTF-8."
        yield _problem(0, Rule.NOT_UTF8, message=message, last=True)
    elif head.lstrip().startswith(b"["):
        for row, _ in array_rows(file, head, number=number):
            yield row
    else:
        yield from _line_rows(file, head, number=number)


def other_encoding(head: bytes) -> str | None:
    """Return the encoding that `head`, where a file's text begins, has instead of UTF-8.

    It is known by its byte order mark, or else by its zeros: JSON begins with
    an ASCII character (RFC 4627, section 3), of which no byte is 0 in UTF-8.
    """
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "UTF-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    if b"\0" not in head[:2]:
        return None
    return "UTF-32" if b"\0\0\0" in (head[:3], head[1:4]) else "UTF-16"


class Decoder:
    """JSON's own decoder, which notes what JSON forbids but Python lets pass."""

    def __init__(self) -> None:
        """Have noted nothing yet."""
        self._faults: list[tuple[Rule, str]] = []
        self._json = json.JSONDecoder(
            object_pairs_hook=self._object, parse_constant=self._constant, parse_int=self._integer
        )

    def decode(self, text: str, start: int) -> tuple[object, int]:
        """Return the value at `start` and where it ends; raises `JSONDecodeError`."""
        self._faults.clear()
        return self._json.raw_decode(text, start)

    def row(self, line: int, value: object, *, element: int = 0) -> Row | Problem:
        """Return the row that was just decoded, or the first fault that was noted in it."""
        if not self._faults:
            return Row(line, value, element)
        rule, fault = self._faults[0]
        return _problem(line, rule, message=f"{place(line, element)}: {fault}", element=element)

    def _object(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twin = Counter(key for key, _ in pairs).most_common(1)[0][0]
            fault = f"the key {json.dumps(twin[:80])} occurs twice in one object. Remove one."
            self._faults.append((Rule.DUPLICATE_KEY, fault))
        return found

    def _constant(self, name: str) -> float:
        fault = f"{name} is not JSON. Write null or a number instead."
        self._faults.append((Rule.INVALID_JSON, fault))
        return 0.0

    def _integer(self, digits: str) -> int:
        if len(digits) <= _MAX_DIGITS:
            return int(digits)
        fault = f"a number has {len(digits):,} digits. Write it as a string."
        self._faults.append((Rule.NUMBER_TOO_LONG, fault))
        return 0


def _line_rows(file: BinaryIO, line: bytes, *, number: int) -> Iterator[Row | Problem]:
    decoder = Decoder()
    while line:
        if len(line) > MAX_ROW_SIZE:
            yield too_long(number)
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_ROW_SIZE)
        elif line := line.strip(BLANK.encode()):
            row = line_row(decoder, line, number=number)
            yield row
            if isinstance(row, Problem) and row.last:
                return
        line = file.readline(MAX_ROW_SIZE + 1)
        number += 1


def line_row(decoder: Decoder, line: bytes, *, number: int) -> Row | Problem:
    """Return the row that is the whole of `line`, without blanks around, or what is wrong."""
    try:
        text = line.decode()
        value, end = decoder.decode(text, 0)
    except UnicodeDecodeError as error:
        column = len(line[: error.start].decode()) + 1
        return _not_utf8(number, column, byte=line[error.start])
    except json.JSONDecodeError as error:
        if error.pos >= len(text) - 1 and text.endswith(("{", "[", ",")):
            return _pretty_printed(number)
        return _invalid_json(number, error.colno, complaint=error.msg)
    except RecursionError:
        return _too_deep(number)
    if end < len(text):
        return _invalid_json(number, end + 1, complaint="Nothing may follow the value on its line")
    return decoder.row(number, value)


class _Window:
    """The part of an array's text that is being decoded, and its place in the file."""

    def __init__(self, file: BinaryIO, head: bytes, *, line: int) -> None:
        """Begin with `head`, which was read from `file` already and begins on `line`."""
        self._file = file
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self.at = 0
        """Position in `text` up to which the array has been understood."""
        self.ended = False
        """Whether no more can be read."""
        self.bad_byte: int | None = None
        """The byte behind `text` that is not UTF-8, where that is why no more can be read."""
        self._marked, self._line, self._column = 0, line, 1
        self.text = self._decoded(head)
        """What of the text has been read and is not yet done with."""

    def grow(self) -> None:
        """Drop what is done with and read on, at least doubling what is left."""
        self.mark()
        parts = [self.text[self.at :]]
        size = len(parts[0])
        wanted = size + max(CHUNK_SIZE, size)
        while not self.ended and size < wanted:
            chunk = self._file.read(wanted - size)
            parts.append(self._decoded(chunk))
            size += len(parts[-1])
        self.text, self.at, self._marked = "".join(parts), 0, 0

    def peek(self) -> str:
        """Go on to the next character that is no blank and return it; nothing at the end."""
        while True:
            blanks = _BLANKS.match(self.text, self.at)
            self.at = blanks.end() if blanks else self.at
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self.grow()

    def mark(self) -> int:
        """Remember which line and column `at` is on; return the line."""
        self._line, self._column = self._place(self.at)
        self._marked = self.at
        return self._line

    def broken(self, complaint: str, at: int, *, cut: bool) -> _BrokenArrayError:
        """Return the error to raise for a fault at position `at`.

        `cut` tells that the text's end may be the cause: then a byte that is not
        UTF-8 behind it is the real fault.
        """
        if cut and self.bad_byte is not None:
            line, column = self._place(len(self.text))
            return _BrokenArrayError(_not_utf8(line, column, byte=self.bad_byte))
        if at >= len(self.text):
            complaint = "The file ends before the array is closed by ']'"
        return _BrokenArrayError(_invalid_json(*self._place(at), complaint=complaint))

    def _place(self, at: int) -> tuple[int, int]:
        # No line break can be part of a JSON string, so that counting them is enough.
        breaks = self.text.count("\n", self._marked, at)
        if breaks:
            return self._line + breaks, at - self.text.rfind("\n", self._marked, at)
        return self._line, self._column + at - self._marked

    def _decoded(self, chunk: bytes) -> str:
        try:
            text = self._utf8.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            self.ended, self.bad_byte = True, error.object[error.start]
            return error.object[: error.start].decode()
        self.ended = not chunk
        return text


class _BrokenArrayError(Exception):
    """An array cannot be read beyond this problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def array_rows(file: BinaryIO, head: bytes, *, number: int) -> Iterator[tuple[Row | Problem, str]]:
    """Yield each element of an array, or what is wrong with it, and its text.

    The array begins in `head`, line `number`, which was read from `file` already. A
    problem beyond which it cannot be read has no text.
    """
    try:
        yield from _elements(_Window(file, head, line=number))
    except _BrokenArrayError as error:
        yield error.problem.model_copy(update={"last": True}), ""


def _elements(window: _Window) -> Iterator[tuple[Row | Problem, str]]:
    decoder = Decoder()
    window.peek()
    window.at += 1
    closed = window.peek() == "]"
    number = 0
    while not closed:
        window.peek()
        number += 1
        yield _element(window, decoder, number=number)
        following = window.peek()
        if following not in (",", "]") or not following:
            raise window.broken("Expected ',' or ']'", window.at, cut=not following)
        closed = following == "]"
        window.at += not closed
    window.at += 1
    if window.peek() or window.bad_byte is not None:
        complaint = "Nothing may follow the array's closing ']'"
        raise window.broken(complaint, window.at, cut=True)


def _element(window: _Window, decoder: Decoder, *, number: int) -> tuple[Row | Problem, str]:
    """Decode the element at the window's position, growing the window until it is whole."""
    while True:
        line = window.mark()
        try:
            value, end = decoder.decode(window.text, window.at)
        except json.JSONDecodeError as error:
            near = error.pos >= len(window.text) - _LONGEST_CUT
            cut = near or error.msg.startswith("Unterminated string")
            if window.ended or not cut:
                raise window.broken(error.msg, error.pos, cut=cut) from None
        except RecursionError:
            raise _BrokenArrayError(_too_deep(line, number)) from None
        else:
            # A number near the window's end may go on behind it: "0." decodes as 0 and a rest.
            far = end < len(window.text) - _LONGEST_CUT
            if far or window.ended or window.text.startswith(_SEPARATORS, end):
                text, window.at = window.text[window.at : end], end
                if len(text) > MAX_ROW_SIZE:
                    return too_long(line, number), text
                return decoder.row(line, value, element=number), text
        if len(window.text) - window.at > MAX_ROW_SIZE:
            raise _BrokenArrayError(too_long(line, number))
        window.grow()


def _problem(
    line: int, rule: Rule, *, message: str, element: int = 0, last: bool = False
) -> Problem:
    return Problem(line=line, element=element, pointer="", rule=rule, message=message, last=last)


def _not_utf8(line: int, column: int, *, byte: int) -> Problem:
    message = f"Line {line}, column {column}: the byte 0x{byte:02x} is not UTF-8 here."
    return _problem(line, Rule.NOT_UTF8, message=f"{message} Save the file as UTF-8.")


def _invalid_json(line: int, column: int, *, complaint: str) -> Problem:
    message = f"Line {line}, column {column}: not valid JSON. {complaint}. "
    if (line, column) == (1, 1):
        message += "Begin with an object or an array, or in CSV with a line of a format's keys."
    else:
        message += "Mend it here, or have a JSON library write the file."
    return _problem(line, Rule.INVALID_JSON, message=message)


def _pretty_printed(line: int) -> Problem:
    message = f"Line {line}: the object does not end on its line."
    mend = "Write each example on one line (JSON Lines), or all of them in one array [...]."
    return _problem(line, Rule.PRETTY_PRINTED, message=f"{message} {mend}", last=True)


def _too_deep(line: int, element: int = 0) -> Problem:
    fault = "arrays or objects are nested too deeply. Make the example flat."
    message = f"{place(line, element)}: {fault}"
    return _problem(line, Rule.NESTED_TOO_DEEPLY, message=message, element=element)


def too_long(line: int, element: int = 0) -> Problem:
    """Return the problem of a row that is longer than any that is read."""
    fault = f"the example is longer than {MAX_ROW_SIZE // 2**20} MiB. Shorten it."
    message = f"{place(line, element)}: {fault}"
    return _problem(line, Rule.ROW_TOO_LONG, message=message, element=element)
