"""A repair mends what needs no judgement, tells all of it, and leaves every other byte alone."""

from __future__ import annotations

import json
import shutil
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.dataset.repair import repair
from tunesmith.dataset.validation import Sources, validate
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.repair import RepairReport, repaired_name
from tunesmith.domain.validation import ValidationOptions

MARK = b"\xef\xbb\xbf"
A, B, C = (b'{"prompt": "%c", "completion": "1.50"}' % letter for letter in b"abc")


def repaired(content: bytes) -> tuple[bytes, RepairReport, bytes]:
    target, diff = BytesIO(), BytesIO()
    report = repair(BytesIO(content), target, diff=diff)
    copy = target.getvalue() if report.mended else content
    return copy, report, diff.getvalue()


def chat(answer: str, **more: Any) -> bytes:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer, **more}]
    return json.dumps({"messages": turns}).encode()


@pytest.mark.parametrize(
    ("content", "copy", "mended"),
    [
        (MARK + A + b"\n" + B, A + b"\n" + B, {"byte_order_mark": 1}),
        (A + b"\n" + MARK + B + b"\n", A + b"\n" + B + b"\n", {"byte_order_mark": 1}),
        (A + b"\r\n" + B + b"\r\n", A + b"\n" + B + b"\n", {"crlf": 2}),
        (b"\n" + A + b"\n \t\n" + B + b"\n\n", A + b"\n" + B + b"\n", {"blank_line": 3}),
        (A + b"\n" + B + b"\n" + A, A + b"\n" + B + b"\n", {"duplicate": 1}),
        (A + b'\n{"prompt": "x", "completion": " "}\n', A + b"\n", {"empty_answer": 1}),
        (b"[" + A + b",\n " + B + b"]", A + b"\n" + B + b"\n", {"json_array": 1}),
        (
            b'{\n  "prompt": "a {",\n  "completion": 1\n}\n' + B + b"\n",
            b'{ "prompt": "a {", "completion": 1 }\n' + B + b"\n",
            {"pretty_printed": 1},
        ),
        (
            b'{"prompt": "a\\u0007\\b \\\\u0007", "completion": "\x7f\xc2\x80b\\n"}',
            b'{"prompt": "a \\\\u0007", "completion": "b\\n"}',
            {"control_characters": 1},
        ),
        (
            A + b'\n{"prompt": "\\u0001a", "completion": "1.50"}\n',
            A + b"\n",
            {"duplicate": 1},
        ),
        (A + b'\n{"prompt": "b", "completion": "\\u0001"}\n', A + b"\n", {"empty_answer": 1}),
    ],
)
def test_each_mend_changes_its_own_lines_alone(
    content: bytes, copy: bytes, mended: dict[str, int]
) -> None:
    found, report, _ = repaired(content)

    assert found == copy
    assert report.mended == mended


def test_a_change_names_its_line_in_the_original_and_the_first_twenty_are_told() -> None:
    _, report, _ = repaired(A + b"\n" + B + b"\n" + (A + b"\n") * 30)

    assert report.mended == {"duplicate": 30}
    assert [change.line for change in report.changes] == list(range(3, 23))
    assert report.changes[0].what == "The row was dropped: an earlier one is the same example."


def test_broken_rows_stay_letter_by_letter_and_are_counted() -> None:
    broken = b'{"prompt": 1}\n7\n{"prompt": "caf\xe9", "completion": ""}\n{"a": \n'

    copy, report, _ = repaired(A + b"\n" + broken + A)

    assert copy == A + b"\n" + broken
    assert report.unmended == {
        "invalid_json": 1,
        "missing_key": 1,
        "not_an_object": 1,
        "not_utf8": 1,
        "wrong_type": 1,
    }


def test_an_object_that_never_ends_stays_with_all_that_follows() -> None:
    rest = b'{\n "prompt": "a",\n' + (A + b"\r\n") * 2

    copy, report, _ = repaired(A + b"\r\n" + rest)

    assert copy == A + b"\n" + rest
    assert report.unmended == {"pretty_printed": 1}


@pytest.mark.parametrize(
    "content",
    [
        b"[" + A + b", " + A + b", ",
        (b'{"text": ""}\n' * 3),
        b'\r\n7\r\n["x"]\r\n',
        b'{"prompt": "x", "completion": ""}\n[1]\n' + A + b"\n" + A,
        b"",
    ],
)
def test_where_the_copy_would_be_no_better_nothing_is_changed(content: bytes) -> None:
    target, diff = BytesIO(), BytesIO()

    report = repair(BytesIO(content), target, diff=diff)

    assert (report.mended, report.changes) == ({}, ())
    assert target.getvalue() == diff.getvalue() == b""


def test_control_characters_stay_where_nothing_would_be_left_of_a_chat_answer() -> None:
    row = chat("\u0007")

    assert repaired(row + b"\r\n" + chat("b"))[0] == row + b"\n" + chat("b")
    assert repaired(row + b"\n\n" + chat("a\u0007"))[1].unmended == {"control_characters": 1}


def test_what_is_dubious_and_needs_judgement_is_counted_as_left() -> None:
    pair = b'{"question": "Who?", "chosen": "a@firm.de", "rejected": "a@firm.de"}\n'

    assert repaired(pair)[1].unmended == {"personal_data": 2, "same_answers": 1}


def test_answers_that_differ_in_weight_alone_are_both_kept() -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}] * 2
    light = [turns[0], {**turns[1], "weight": 0}, *turns[2:]]
    rows = b"".join(json.dumps({"messages": each}).encode() + b"\n" for each in (turns, light))

    assert repaired(rows)[1].mended == {}


def test_control_characters_that_may_be_the_rest_of_a_wrong_decoding_stay() -> None:
    row = b'{"prompt": "It\xc3\xa2\xc2\x80\xc2\x99s", "completion": "\xc3\x83\xc2\xa9"}\n'

    copy, report, _ = repaired(row)

    assert copy == row
    assert set(report.unmended) == {"broken_characters", "control_characters"}


def test_numbers_keys_and_blanks_of_a_mended_row_stay_as_they_are_written() -> None:
    row = b'[{"prompt":  "a\\u0007",\n"completion": "b", "id\\u0007" : 1e999, "n": 1.00}]'

    assert (
        repaired(row)[0] == b'{"prompt":  "a", "completion": "b", "id\\u0007" : 1e999, "n": 1.00}\n'
    )


@pytest.mark.parametrize("content", [b"\x1f\x8b" + A, b"PAR1" + A, b"prompt,completion\na,b\n"])
def test_what_is_packed_or_a_table_is_refused_with_the_mend(content: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="Unpack it, or write it as JSON Lines") as raised:
        repaired(content)
    assert raised.value.code == "file_not_repairable"


LINES = st.lists(
    st.sampled_from(
        [
            A,
            B,
            MARK + C,
            MARK * 2 + b"  " + A,
            b"",
            b" ",
            b'{"prompt": "a\\u0007", "completion": "1.50"}',
            b'{"prompt": "b", "completion": ""}',
            b'{"instruction": "b", "output": ""}',
            b'{"instruction": "b", "output": "c"}',
            chat("Yes"),
            chat("\u0007"),
            chat("a\u0085"),
            chat("Yes", weight=0),
            b'{\n "prompt": "p",\n "completion":\n "q"\n}',
            b'{\n "prompt": "p"\n}',
            b'{\n "prompt": "p",,\n}',
            b"[" + C + b"]",
            b"[",
            b"7",
            b'{"prompt": "caf\xe9"}',
            b"{",
            b"\x1f\x8b",
            b"prompt,completion",
            b"\xff\xfe",
        ]
    ),
    max_size=8,
)


def joined(lines: list[bytes], ends: list[bytes], *, frame: bool) -> bytes:
    if frame:
        return b"[" + b",\n".join(lines) + b"]\n"
    return b"".join(line + end for line, end in zip(lines, ends, strict=False))


@settings(max_examples=300, deadline=None)
@given(LINES, st.lists(st.sampled_from([b"\n", b"\r\n", b"\n\n"]), min_size=8), st.booleans())
def test_a_repair_is_complete_at_once_and_its_diff_says_all(
    lines: list[bytes], ends: list[bytes], frame: bool
) -> None:
    content = joined(lines, ends, frame=frame)
    try:
        copy, report, diff = repaired(content)
    except InvalidRequestError:
        return

    assert patched(content, diff) == copy
    again, twice, _ = repaired(copy)
    assert (again, twice.mended) == (copy, {})
    if report.mended:
        left = counts(copy)
        assert left.get("empty_answer", 0) == 0
        # Alike, or equal but for weights: that is told by all rows together, and not mended.
        alike = {"duplicate", "near_duplicate"}
        assert {rule: n for rule, n in left.items() if rule not in alike} == report.unmended


def counts(content: bytes) -> dict[str, int]:
    return validate(Sources(BytesIO(content)), ValidationOptions(minimum=1)).counts


def patched(content: bytes, diff: bytes) -> bytes:
    """Apply a diff without context, believing its numbers."""
    old, new, at = content.split(b"\n"), list[bytes](), 0
    old = [line + b"\n" for line in old[:-1]] + ([old[-1]] if old[-1] else [])
    for line in diff.replace(b"\n\\ No newline at end of file", b"").split(b"\n"):
        if line.startswith(b"@@"):
            start, _, count = line.split()[1][1:].partition(b",")
            upto = int(start) - bool(int(count))
            new += old[at:upto]
            at = upto
        elif line.startswith(b"-"):
            assert old[at].rstrip(b"\n") == line[1:]
            at += 1
        elif line.startswith(b"+"):
            new.append(line[1:] + b"\n")
    whole = b"".join(new + old[at:])
    unended = b"\n+" in diff and diff.endswith(b"\n\\ No newline at end of file\n")
    return whole.removesuffix(b"\n") if unended and at == len(old) else whole


@pytest.mark.skipif(shutil.which("patch") is None, reason="there is no patch(1)")
@pytest.mark.parametrize(
    "content",
    [
        MARK + A + b"\r\n\r\n" + B + b"\r\n" + C + b"\n" + A,
        b"[" + A + b",\n" + B + b",\n" + A + b"]",
        A + b"\n" + B + b"\n{\n" + C[1:] + b"\r\n",
    ],
)
def test_patch_makes_the_copy_of_the_original_by_the_diff(content: bytes, tmp_path: Path) -> None:
    copy, _, diff = repaired(content)
    original, given = tmp_path / "a.jsonl", tmp_path / "a.diff"
    original.write_bytes(content)
    given.write_bytes(b"--- a.jsonl\n+++ b.jsonl\n" + diff)

    subprocess.run(["patch", "--binary", "-s", original, given], check=True)

    assert original.read_bytes() == copy != content


@pytest.mark.parametrize(
    ("name", "copy"),
    [
        ("train.jsonl", "train-repaired.jsonl"),
        (".json", ".json-repaired.jsonl"),
        ("a.b.json", "a.b-repaired.jsonl"),
        ("ä" * 127, "ä" * 120 + "-repaired.jsonl"),
    ],
)
def test_the_name_of_the_copy_is_the_originals_with_a_word_behind(name: str, copy: str) -> None:
    assert repaired_name(name) == copy
    assert len(copy.encode()) <= 255
