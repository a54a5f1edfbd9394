"""Take a multipart form apart as it arrives: its one file piece by piece, its values whole.

The form's file is as large as it may be and is never held; values are small and are.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from tunesmith.api.codes import TOO_LARGE
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.protocol.reading import shortened

MAX_VALUE_BYTES = 4096
"""Longest value of a form; the longest that means anything has some twenty bytes."""

_MAX_PARTS = 16


@dataclass
class _Part:
    """A part that is arriving."""

    header_name: bytes = b""
    header_value: bytes = b""
    disposition: bytes = b""
    name: str = ""
    filename: bytes | None = None
    value: bytearray = field(default_factory=bytearray)


class FormReader:
    """Reads a form of one file and some values; each may come once, in any order."""

    def __init__(
        self, content_type: str, *, file: str, values: Collection[str], limit: int, mend: str
    ) -> None:
        """Read a form whose `file` has at most `limit` bytes and whose other parts are `values`.

        `content_type` is the request's header; `mend` says what to do with a
        larger file. Raises `InvalidRequestError` where the header names no
        boundary that can be used.
        """
        self.values: dict[str, str | None] = {}
        """The values that have come, by name; `None` for one that came as a file."""
        self.filename = b""
        """The file's name, as the parser reads it from `disposition`."""
        self.disposition = b""
        """The header that names the file, as it was sent; empty until the file has begun."""
        self.size = 0
        """How many bytes of the file have come."""
        self.limit = limit
        """The most bytes that the file may have."""
        self._file, self._known, self._mend = file, values, mend
        self._part = _Part()
        self._parts = 0
        self._pieces: list[bytes] = []
        self._unknown: str | None = None
        self._file_ended = False
        self._parser = self._new_parser(content_type)

    def _new_parser(self, content_type: str) -> MultipartParser:
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise _unreadable("its content type names no boundary")
        try:
            return MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._add_header_name,
                    "on_header_value": self._add_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._add_data,
                    "on_part_end": self._end_part,
                },
            )
        except FormParserError as error:
            raise _unreadable(str(error)) from None

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes of the body; return the pieces of the file that are in them.

        Raises `InvalidRequestError` for a form that cannot be read, for a part
        that comes twice, and at the first byte beyond a limit.
        """
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _unreadable(str(error)) from None
        pieces, self._pieces = self._pieces, []
        return pieces

    def end(self) -> None:
        """Take the body's end. Raises `InvalidRequestError` where a part is missing or unknown."""
        if not self._file_ended:
            raise self.missing(self._file)
        if self._unknown is not None:
            raise InvalidRequestError(
                f"'{shortened(self._unknown)}' is no known part of the form; leave it out.",
                param=self._unknown,
            )

    def missing(self, name: str) -> InvalidRequestError:
        """Return the error for a form without the part `name`."""
        return InvalidRequestError(
            f"The form's part '{name}' is missing; it is required.", param=name
        )

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise _unreadable(f"it has more than {_MAX_PARTS} parts")
        self._part = _Part()

    # The parser hands over all data by position, as a whole and the place in it.
    def _add_header_name(self, data: bytes, start: int, end: int) -> None:  # noqa: PLR0917
        self._part.header_name += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:  # noqa: PLR0917
        self._part.header_value += data[start:end]

    def _end_header(self) -> None:
        part = self._part
        if part.header_name.lower() == b"content-disposition":
            part.disposition = part.header_value
        part.header_name = part.header_value = b""

    def _end_headers(self) -> None:
        part = self._part
        options = parse_options_header(part.disposition)[1]
        if b"name" not in options:
            raise _unreadable("a part has no name")
        part.name = options[b"name"].decode(errors="replace")
        part.filename = options.get(b"filename")
        if part.name == self._file:
            self._begin_file(part)
        elif part.name not in self._known:
            self._unknown = self._unknown or part.name
        elif part.name in self.values:
            raise _twice(part.name)

    def _begin_file(self, part: _Part) -> None:
        if self.disposition:
            raise _twice(part.name)
        if part.filename is None:
            raise InvalidRequestError(
                f"'{part.name}' is a plain value; send it as a file, with a file name.",
                param=part.name,
            )
        self.filename, self.disposition = part.filename, part.disposition

    def _add_data(self, data: bytes, start: int, end: int) -> None:  # noqa: PLR0917
        part = self._part
        if part.name == self._file:
            self.size += end - start
            if self.size > self.limit:
                raise self._too_large()
            self._pieces.append(data[start:end])
        elif part.name in self._known and part.filename is None:
            part.value += data[start:end]
            if len(part.value) > MAX_VALUE_BYTES:
                raise InvalidRequestError(
                    f"'{part.name}' is longer than {MAX_VALUE_BYTES} bytes.", param=part.name
                )

    def _end_part(self) -> None:
        part = self._part
        if part.name == self._file:
            self._file_ended = True
        elif part.name in self._known:
            value = part.value.decode(errors="replace") if part.filename is None else None
            self.values[part.name] = value

    def _too_large(self) -> InvalidRequestError:
        return InvalidRequestError(
            f"'{self._file}' has more than the {self.limit} bytes that are taken; {self._mend}.",
            param=self._file,
            code=TOO_LARGE,
        )


def _unreadable(fault: str) -> InvalidRequestError:
    return InvalidRequestError(f"The form cannot be read: {fault}.")


def _twice(name: str) -> InvalidRequestError:
    return InvalidRequestError(f"The form's part '{name}' is given more than once.", param=name)
