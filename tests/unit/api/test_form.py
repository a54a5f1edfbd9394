"""A form is read alike however it is cut into chunks, and its file is never held."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.api.form import MAX_VALUE_BYTES, FormReader
from tunesmith.domain.errors import InvalidRequestError

# Content that looks like the form's own boundary, or nearly so.
CONTENT = b"{}\r\n--\r\n--B\r--Bound\r\n--B--\n" * 3
FILE = (
    b"--Bxy\r\nContent-Type: text/plain\r\n"
    b'Content-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n' + CONTENT + b"\r\n"
)
PURPOSE = b'--Bxy\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
END = b"--Bxy--\r\n"


def reader(*, limit: int = 10_000) -> FormReader:
    return FormReader(
        "multipart/form-data; boundary=Bxy",
        file="file",
        values=("purpose",),
        limit=limit,
        mend="send less",
    )


@given(
    body=st.sampled_from([FILE + PURPOSE + END, PURPOSE + FILE + END]),
    cuts=st.lists(st.integers(0, len(FILE + PURPOSE + END)), max_size=40),
)
def test_a_form_is_read_alike_however_it_is_cut(body: bytes, cuts: list[int]) -> None:
    form, content = reader(), b""
    places = [0, *sorted(cuts), len(body)]
    for start, end in pairwise(places):
        content += b"".join(form.feed(body[start:end]))
    form.end()
    assert content == CONTENT
    assert (form.filename, form.size) == (b"a.jsonl", len(CONTENT))
    assert form.values == {"purpose": "fine-tune"}


def test_pieces_are_handed_over_as_they_come_and_not_kept() -> None:
    form = reader(limit=10**6)
    form.feed(FILE.partition(CONTENT)[0])
    for _ in range(10):
        assert sum(map(len, form.feed(b"x" * 1000))) == 1000


def test_a_file_is_refused_at_the_first_byte_beyond_the_limit() -> None:
    form = reader(limit=5)
    form.feed(FILE.partition(CONTENT)[0])
    form.feed(b"12345")
    with pytest.raises(InvalidRequestError, match="more than the 5 bytes"):
        form.feed(b"6")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (PURPOSE.replace(b"fine-tune", b"x" * (MAX_VALUE_BYTES + 1)), "'purpose' is longer than"),
        (FILE.replace(b'"a.jsonl"', b'"%s"' % (b"x" * 100_000)), "cannot be read"),
        (b'--Bxy\r\nContent-Disposition: form-data; name="more"\r\n\r\n\r\n' * 17, "16 parts"),
        (b"--Bxy\r\nContent-Type: text/plain\r\n\r\n", "no name"),
    ],
)
def test_what_would_be_held_is_bounded(body: bytes, words: str) -> None:
    form = reader()
    with pytest.raises(InvalidRequestError, match=words):
        form.feed(body)


@pytest.mark.parametrize("content_type", ["multipart/form-data; boundary=" + "x" * 300, "a/b"])
def test_a_header_without_a_boundary_that_can_be_used_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidRequestError, match="The form cannot be read"):
        FormReader(content_type, file="file", values=(), limit=1, mend="")
