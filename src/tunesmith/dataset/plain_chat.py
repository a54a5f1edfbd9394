"""Tells which lines of a block of chat rows are beyond doubt, many at a time.

Arrow reads the block as a table, and compares whole columns at once; that
takes a sixth of the time of reading row by row. A line is beyond doubt if it has
nothing but messages of a role and a text, in a right order, and nothing in the
texts that gives cause for a search. All others are for the careful reading, which alone
finds and names faults; so is a whole block of which anything is unusual.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import hyperscan
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as arrow_json

from tunesmith.dataset.examples import Example, Message
from tunesmith.dataset.sensitive import SENSITIVE

Letters = npt.NDArray[np.uint8]
"""The bytes of a block."""
Places = npt.NDArray[np.intp]
"""Where in a block something stands."""

_SCHEMA = pa.schema(
    [("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))]
)


def _text(value: str) -> pa.StringScalar:
    """Return `value` for Arrow, which imports pandas, where that is installed, for any of Python's.

    Each process that checks files would wait for it.
    """
    ends = struct.pack("=2i", 0, len(value))
    return pa.StringArray.from_buffers(1, pa.py_buffer(ends), pa.py_buffer(value.encode()))[0]


_SYSTEM, _ASSISTANT, _NOTHING, _SAYS, _BREAK = map(_text, ("system", "assistant", "", ": ", "\n"))
_NO_ROW = pa.Array.from_buffers(pa.int64(), 1, [None, pa.py_buffer(struct.pack("=q", -1))])
_ONE = pa.Array.from_buffers(pa.int32(), 1, [None, pa.py_buffer(struct.pack("=i", 1))])[0]
_ROLE = "^(?:system|user|assistant)$"
# Escapes of ASCII characters, which may spell a key in a second way or hide a control character,
# and of halves of surrogate pairs, which may be without the other half.
_ODD_ESCAPE = re.compile(rb"\\u(?:00[0-7]|[dD][89a-fA-F])")
# Whatever may be a finding of the rules for content, as JSON writes it in UTF-8: broader than they,
# but quick. Control characters are DEL, what only escapes can write, and those beyond ASCII.
_SUSPICIOUS = (
    *SENSITIVE,
    r"\x7f|\\[bf]|\xc2[\x80-\x9f]|\\u00[89]",
    r"\xef\xbf\xbd|\\u[fF]{3}[dD]",
    r"\xc3[\x82\x83]|\\u00[cC][23]",
    r"\xc3\xa2|\\u00[eE]2",
)


@dataclass(frozen=True, slots=True)
class PlainRows:
    """The rows of a block, one in each line."""

    wordings: list[bytes | None]
    """For each line its example's wording in UTF-8, or `None` if the line is in doubt."""
    messages: pa.ListArray
    """The turns of each line."""

    def examples(self, line: int) -> list[Example]:
        """Return the example of each line, the first of which is the file's `line`.

        Those of lines in doubt mean nothing.
        """
        turns = self.messages.flatten()
        said = zip(*(turns.field(key).to_pylist() for key in ("role", "content")), strict=True)
        found = [Message(role, content, role == "assistant") for role, content in said]
        bounds = enumerate(pairwise(self.messages.offsets.to_pylist()), line)
        return [Example(at, tuple(found[begin:end])) for at, (begin, end) in bounds]


def plain_rows(block: bytes) -> PlainRows | None:
    """Return the rows of `block`, or `None` if all of it must be read carefully."""
    letters = np.frombuffer(block, np.uint8)
    breaks = np.flatnonzero(letters == ord("\n"))
    if not _is_framed(block, letters, breaks=breaks):
        return None
    messages = _messages(block, lines=len(breaks) + (not block.endswith(b"\n")))
    if messages is None:
        return None
    turns = messages.flatten()
    role, content = turns.field("role"), turns.field("content")
    if turns.null_count or role.null_count or content.null_count:
        return None
    # A key that occurs twice is two quotation marks too many, and Arrow would keep one of both.
    quoted = pc.sum(pc.count_substring(content, '"')).as_py() if b"\\" in block else 0
    quotes = np.count_nonzero(letters == ord('"'))
    if quotes != 2 * len(messages) + 8 * len(turns) + quoted:
        return None
    spoken = pc.binary_join_element_wise(role, content, _SAYS)
    wordings = pc.binary_join(pa.ListArray.from_arrays(messages.offsets, spoken), _BREAK)
    found: list[bytes | None] = wordings.cast(pa.binary()).to_pylist()
    for row in _in_doubt(messages, role, content=content) | _suspicious(block, breaks):
        found[row] = None
    return PlainRows(found, messages)


def _is_framed(block: bytes, letters: Letters, *, breaks: Places) -> bool:
    """Tell whether each line break ends an object and each line begins one.

    Within an object, "}" and "{" never stand around a line break.
    """
    inner = breaks[:-1] if block.endswith(b"\n") else breaks
    return (
        block.startswith(b"{")
        and block.endswith((b"}", b"}\n"))
        and bool((letters[inner - 1] == ord("}")).all() and (letters[inner + 1] == ord("{")).all())
    )


def _messages(block: bytes, *, lines: int) -> pa.ListArray | None:
    """Return the messages of each line; `None` where a line may be more, or less, than a row."""
    if not _is_utf8(block):
        return None
    if b"\\" in block and _ODD_ESCAPE.search(block):
        return None
    try:
        table = arrow_json.read_json(
            pa.BufferReader(block),
            read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(block) + 1),
            parse_options=arrow_json.ParseOptions(
                explicit_schema=_SCHEMA, unexpected_field_behavior="error"
            ),
        )
    except pa.ArrowInvalid:
        return None
    column = table.column("messages")
    if table.num_rows != lines or column.num_chunks != 1:
        return None
    messages = column.chunk(0)
    sizes = pc.list_value_length(messages)
    return None if messages.null_count or not pc.min(sizes).as_py() else messages


def _is_utf8(block: bytes) -> bool:
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _in_doubt(messages: pa.ListArray, role: pa.Array, *, content: pa.Array) -> set[int]:
    """Return the rows whose structure is to be read carefully."""
    row = pc.list_parent_indices(messages)
    before = pa.concat_arrays([_NO_ROW, row.slice(0, len(row) - 1)])
    odd = pc.or_(
        pc.or_(
            pc.invert(pc.match_substring_regex(role, _ROLE)),
            pc.and_(pc.equal(role, _SYSTEM), pc.equal(row, before)),
        ),
        pc.or_(pc.equal(content, _NOTHING), pc.utf8_is_space(content)),
    )
    last = role.take(pc.subtract(messages.offsets.slice(1), _ONE))
    unanswered = pc.indices_nonzero(pc.not_equal(last, _ASSISTANT))
    return {*row.filter(odd).to_pylist(), *unanswered.to_pylist()}


def _suspicious(block: bytes, breaks: Places) -> set[int]:
    """Return the rows of `block`, cut at `breaks`, whose content is to be read carefully."""
    ends: list[int] = []
    _database().scan(block, match_event_handler=lambda _id, _begin, end, *_: ends.append(end))
    return set(np.searchsorted(breaks, ends).tolist())


@cache
def _database() -> hyperscan.Database:
    database = hyperscan.Database()
    patterns = [pattern.encode() for pattern in _SUSPICIOUS]
    database.compile(expressions=patterns, ids=range(len(patterns)), elements=len(patterns))
    return database
