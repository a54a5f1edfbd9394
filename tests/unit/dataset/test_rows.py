from __future__ import annotations

import io
import json
import tracemalloc
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.dataset import rows
from tunesmith.dataset.containers import read_rows
from tunesmith.dataset.problems import Problem, Rule
from tunesmith.dataset.rows import MAX_ROW_SIZE, Row


class Drip(io.BytesIO):
    """A stream that gives at most `size` bytes at once, as a network does."""

    def __init__(self, content: bytes, size: int) -> None:
        super().__init__(content)
        self._size = size

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self._size if size is None or size < 0 else min(size, self._size))


def read(content: bytes) -> list[Row | Problem]:
    return list(read_rows(io.BytesIO(content)))


def only_problem(content: bytes) -> Problem:
    [problem] = [item for item in read(content) if isinstance(item, Problem)]
    return problem


def values(items: list[Row | Problem]) -> list[object]:
    assert not [item for item in items if isinstance(item, Problem)], items
    return [item.value for item in items if isinstance(item, Row)]


def lines(items: list[Row | Problem]) -> list[int]:
    return [item.line for item in items]


scalars = st.none() | st.booleans() | st.integers() | st.text()
floats = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    scalars | floats,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
json_rows = st.lists(st.dictionaries(st.text(), json_values), max_size=6)


@given(content=json_rows, ascii_only=st.booleans(), drip=st.integers(1, 7))
def test_rows_written_as_json_lines_read_back_equal(
    content: list[dict[str, Any]], ascii_only: bool, drip: int
) -> None:
    text = "\r\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in content)
    found = list(read_rows(Drip(_encoded(text), drip)))
    assert values(found) == content
    assert lines(found) == list(range(1, len(content) + 1))


@given(
    content=st.lists(json_values, max_size=6),
    indent=st.none() | st.integers(1, 3),
    ascii_only=st.booleans(),
    chunk=st.integers(1, 40),
    drip=st.integers(1, 7),
)
def test_rows_written_as_an_array_read_back_equal_whatever_the_chunks(
    content: list[Any], indent: int | None, ascii_only: bool, chunk: int, drip: int
) -> None:
    text = json.dumps(content, indent=indent, ensure_ascii=ascii_only)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "CHUNK_SIZE", chunk)
        found = list(read_rows(Drip(_encoded(text), drip)))
    assert values(found) == content
    if indent is not None:
        begins = [line for line, text in enumerate(text.split("\n"), 1) if _begins(text, indent)]
        assert lines(found) == begins


@pytest.mark.parametrize("chunk", range(1, 12))
def test_a_number_that_a_chunk_cuts_is_read_whole(
    monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(rows, "CHUNK_SIZE", chunk)
    stream = io.BytesIO(b"[\n0.25,-1e+2 ,12e-1,120]")
    assert values(list(read_rows(stream))) == [0.25, -100.0, 1.2, 120]


def _begins(line: str, indent: int) -> bool:
    """Tell whether an element begins on a line of an array that was written with `indent`."""
    bare = line[indent:]
    return line[:indent].isspace() and bare[:1] not in ("", " ", "]", "}")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@given(content=st.binary(max_size=60), chunk=st.integers(1, 9))
def test_random_bytes_give_rows_and_problems_and_never_an_exception(
    content: bytes, chunk: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "CHUNK_SIZE", chunk)
        for start in (b"", b"[", b'[{"a":1},', b'{"a":', b"\xef\xbb\xbf"):
            found = read(start + content)
            last = (start + content).count(b"\n") + 1
            assert [item.line for item in found] == [0] or all(
                1 <= item.line <= last for item in found
            ), "only a file in another encoding is a fault of no line"


@given(st.lists(st.sampled_from(list('{}[]",:\\u0a \n-.e1')), max_size=30).map("".join))
def test_what_is_accepted_in_an_array_is_exactly_what_json_accepts(inner: str) -> None:
    text = f"[{inner}]"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "CHUNK_SIZE", 1)
        found = read(text.encode())
    try:
        expected = json.loads(text)
    except json.JSONDecodeError:
        assert isinstance(found[-1], Problem)
    else:
        problems = [item.rule for item in found if isinstance(item, Problem)]
        assert set(problems) <= {Rule.DUPLICATE_KEY}
        assert len(found) == len(expected)


def test_blank_lines_a_byte_order_mark_and_windows_line_ends_are_fine() -> None:
    found = read(b'\xef\xbb\xbf\r\n{"a": 1}\r\n \r\n\r\n{"a": 2}')
    assert values(found) == [{"a": 1}, {"a": 2}]
    assert lines(found) == [2, 5]
    assert lines(read(b'\xef\xbb\xbf \n\n[\n{"a": 1},\n\n{"a": 2}\n]\n')) == [4, 6]


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf", b"[]", b" [\n ] \n"])
def test_a_file_without_rows_gives_none(content: bytes) -> None:
    assert read(content) == []


def test_after_a_broken_line_reading_goes_on() -> None:
    found = read(b'{"a": 1}\n{"a" 2}\n{"a": 3}\n')
    assert lines(found) == [1, 2, 3]
    assert [type(item) for item in found] == [Row, Problem, Row]
    problem = only_problem(b'{"a": 1}\n{"a" 2}\n{"a": 3}\n')
    assert problem.rule is Rule.INVALID_JSON
    assert problem.message.startswith("Line 2, column 6: ")


@pytest.mark.parametrize(
    ("content", "rows_before", "place"),
    [
        pytest.param(b'[{"a": 1},\n {"a" 2},\n {"a": 3}]', 1, "Line 2, column 7", id="no colon"),
        pytest.param(b'[{"a": 1}\n {"a": 2}]', 1, "Line 2, column 2", id="no comma"),
        pytest.param(b'[\n{"a": 1},\n]', 1, "Line 3, column 1", id="comma too many"),
        pytest.param(b'[{"a": 1},\n{"a": "b', 1, "Line 2, column 7", id="cut in a string"),
        pytest.param(b'[{"a": 1},\n', 1, "Line 2, column 1", id="cut behind a comma"),
        pytest.param(b'[{"a": 1}]\n{"a": 2}', 1, "Line 2, column 1", id="text behind the end"),
        pytest.param(b'[{"a": "x\ny"}]', 0, "Line 1, column 10", id="line break in a string"),
        pytest.param(b"[", 0, "Line 1, column 2", id="nothing behind the bracket"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 5, 2**18])
def test_a_broken_array_is_read_up_to_the_fault_whose_place_is_named(
    monkeypatch: pytest.MonkeyPatch, content: bytes, rows_before: int, place: str, chunk: int
) -> None:
    monkeypatch.setattr(rows, "CHUNK_SIZE", chunk)
    found = read(content)
    assert [type(item) for item in found] == [Row] * rows_before + [Problem]
    problem = found[-1]
    assert isinstance(problem, Problem)
    assert problem.rule is Rule.INVALID_JSON
    assert problem.message.startswith(f"{place}: ")


@pytest.mark.parametrize(
    "content",
    [b'{"a": 1}\n{"a": "\xc3\xb6\xff"}\n{"a": 3}', b'[{"a": 1},\n{"a": "\xc3\xb6\xff"}, {"a": 3}]'],
    ids=["lines", "array"],
)
def test_a_byte_that_is_not_utf8_is_named_with_its_line_and_column(content: bytes) -> None:
    problem = only_problem(content)
    assert (problem.line, problem.rule) == (2, Rule.NOT_UTF8)
    assert problem.message.startswith("Line 2, column 9: the byte 0xff ")


@pytest.mark.parametrize("encoding", ["UTF-16", "UTF-32"])
@pytest.mark.parametrize("variant", ["", "-LE", "-BE"])
@pytest.mark.parametrize("text", ['{"a": 1}\n{"a": 2}\n', '[\n{"a": 1}]', '\n\n{"a": 1}'])
def test_a_file_in_another_encoding_is_one_problem_that_names_it(
    text: str, variant: str, encoding: str
) -> None:
    content = text.encode(encoding + variant)
    [problem] = read(content)
    assert isinstance(problem, Problem)
    assert (problem.line, problem.rule) == (0, Rule.NOT_UTF8)
    assert problem.message == f"The file is in {encoding}. Save it as UTF-8."


def test_elements_of_an_array_are_numbered_and_lines_are_not() -> None:
    def numbers(content: bytes) -> list[int]:
        return [item.element for item in read(content)]

    assert numbers(b'[{"a": 1}, {"a": 1, "a": 2}, 3]') == [1, 2, 3]
    assert numbers(b'{"a": 1}\n{"a": 1, "a": 2}\n3') == [0, 0, 0]


def test_a_character_that_the_files_end_cuts_is_not_utf8() -> None:
    assert only_problem(b'[{"a": "\xc3').rule is Rule.NOT_UTF8
    assert only_problem(b'[{"a": 1}]\xc3').rule is Rule.NOT_UTF8


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        (b'{"a": NaN}', Rule.INVALID_JSON),
        (b'{"a": -Infinity}', Rule.INVALID_JSON),
        (b'{"a": {"b": 1, "c": 2, "b": 3}}', Rule.DUPLICATE_KEY),
        (b'{"a": ' + b"9" * 5000 + b"}", Rule.NUMBER_TOO_LONG),
    ],
)
def test_what_python_would_let_pass_is_refused_and_reading_goes_on(row: bytes, rule: Rule) -> None:
    for content, place in (
        (b'%s\n{"a": 1}' % row, "Line 1: "),
        (b'[%s,{"a": 1}]' % row, "Example 1 (line 1): "),
    ):
        first, second = read(content)
        assert isinstance(first, Problem)
        assert first.rule is rule
        assert first.message.startswith(place)
        assert isinstance(second, Row)


@pytest.mark.parametrize("content", [b"[" * 10**6, b'{"a":' * 10**5, b'[{"a":' * 10**5])
def test_hostile_nesting_is_a_problem(content: bytes) -> None:
    assert only_problem(content).rule is Rule.NESTED_TOO_DEEPLY


def test_a_row_beyond_the_bound_is_a_problem_and_lines_go_on_behind_it() -> None:
    long = b'{"a": "%s"}' % (b"x" * MAX_ROW_SIZE)
    problem, row = read(long + b'\n{"a": 1}')
    assert isinstance(problem, Problem)
    assert (problem.line, problem.rule) == (1, Rule.ROW_TOO_LONG)
    assert row == Row(2, {"a": 1})
    assert only_problem(b"[" + long + b"]").rule is Rule.ROW_TOO_LONG


def test_an_endless_array_element_is_given_up_in_bounded_memory() -> None:
    class Endless(io.RawIOBase):
        def readline(self, size: int | None = -1, /) -> bytes:
            return b'["\n'

        def read(self, size: int = -1, /) -> bytes:
            return b"x" * min(size, 2**16)

    stream: Any = Endless()
    tracemalloc.start()
    found = list(read_rows(stream))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [item.line for item in found] == [1]
    assert peak < 10 * MAX_ROW_SIZE


def test_one_object_over_several_lines_is_met_with_a_hint_and_not_with_many_problems() -> None:
    problem = only_problem(json.dumps({"messages": [{"role": "user"}]}, indent=2).encode())
    assert (problem.line, problem.rule) == (1, Rule.PRETTY_PRINTED)
    assert "on one line" in problem.message


@pytest.mark.parametrize("as_array", [False, True])
def test_a_long_file_is_read_in_constant_memory(as_array: bool) -> None:
    rows_wanted, row = 40_000, {"instruction": "x" * 500}

    class Generated(io.RawIOBase):
        def __init__(self) -> None:
            self._left = rows_wanted
            self._text = json.dumps(row).encode()

        def readline(self, size: int | None = -1, /) -> bytes:
            if as_array and self._left == rows_wanted:
                return b"[\n"
            return self.read()

        def read(self, size: int = -1, /) -> bytes:
            self._left -= 1
            if self._left < 0:
                return b""
            return self._text + (b"," if as_array and self._left else b"]" * as_array) + b"\n"

    stream: BinaryIO = Generated()  # type: ignore[assignment]
    tracemalloc.start()
    count = sum(1 for item in read_rows(stream) if isinstance(item, Row))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == rows_wanted
    assert peak < 4 * 2**20, "20 MB of rows must not be held"


@pytest.mark.parametrize("content", [b"question;answer\na;b\n", b"Plain text.\n", b"PK\x03\x04"])
def test_a_file_that_is_no_json_at_all_is_told_what_it_may_be(content: bytes) -> None:
    found = next(iter(read_rows(io.BytesIO(content))))
    assert isinstance(found, Problem)
    assert "Begin with an object or an array, or in CSV with" in found.message
