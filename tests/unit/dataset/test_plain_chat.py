"""The quick reading of chat rows changes nothing of what is reported."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from models.tiny import byte_tokenizer
from tunesmith.dataset import blocks, inspection
from tunesmith.dataset.plain_chat import plain_rows
from tunesmith.dataset.sensitive import personal_data_in, secrets_in
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.dataset.validation import Sources, validate
from tunesmith.domain.validation import ValidationOptions, ValidationReport


def plain_wordings(block: bytes) -> list[bytes | None] | None:
    rows = plain_rows(block)
    return rows.wordings if rows is not None else None


def row(*turns: tuple[str, Any], **more: Any) -> bytes:
    messages = [{"role": role, "content": content} for role, content in turns]
    return json.dumps({"messages": messages, **more}, ensure_ascii=False).encode()


U, A, S = ("user", "Why is it so?"), ("assistant", "Nobody knows: ä, 中, 🙂."), ("system", "Be.")
PLAIN = [
    row(U, A),
    row(S, U, A),
    row(U, A, U, A),
    row(A),
    row(("user", 'He said "role" and {"a": 1}\n\tand C:\\dir'), A),
    b'  {"messages" : [ {"content":"x", "role" :"assistant"} ] }'.strip(),
    json.dumps({"messages": [{"role": "assistant", "content": "日本"}]}).encode(),
]
ODD = [
    row(U),
    row(),
    row(A, S),
    row(S, S, A),
    row(("developer", "x"), A),
    row(("tool", "x"), A),
    row(("assistant", " \u00a0")),
    row(("user", ""), A),
    row(("user", None), A),
    row(("user", 7), A),
    row(U, A, id=7),
    row(U, A, tools=[]),
    row(("user", "me@firm.org"), A),
    row(("user", "Call +49 170 1234567"), A),
    row(("user", "a\x07b \ufffd Ã© â€™"), A),
    row(("user", "ghp" + "_" + "0aB1cD2eF3" * 4), A),
    row(("user", "-----BEGIN " + "PRIVATE KEY-----"), A),
    b'{"messages": [{"role": "user", "role": "user", "content": "x"}]}',
    b'{"messages": [{"role": "assistant", "r\\u006fle": "user", "content": "x"}]}',
    b'{"messages": [{"role": "assistant", "content": "\\ud800"}]}',
    b'{"messages": [{"role": "assistant", "content": "\\ud83d\\ude42"}]}',
    b'{"messages": [{"role": "assistant", "content": "\\u0000"}]}',
    b'{"messages": [{"role": "assistant", "content": "\xff"}]}',
    b'{"messages": [], "messages": [{"role": "assistant", "content": "x"}]}',
    b'{"messages": [null, {"role": "assistant", "content": "x"}]}',
    b'{"messages": null}',
    b'{"messages": [{"role": "assistant", "content": "x", "weight": 0}]}',
    b'{"messages": [{"role": "assistant"}]}',
    row(A) + row(A),
    row(A) + b" ]",
    row(A)[:-1],
    b"",
    b"   ",
    b"[]",
    row(A) + b"\r",
    b"{}",
    b'{"prompt": "a", "completion": "b"}',
]


@pytest.mark.parametrize("line", PLAIN)
def test_plain_rows_are_beyond_doubt(line: bytes) -> None:
    (wording,) = plain_wordings(line + b"\n") or [None]

    messages = json.loads(line)["messages"]
    assert wording is not None
    assert wording.decode() == "\n".join(f"{m['role']}: {m['content']}" for m in messages)


@pytest.mark.parametrize("line", ODD)
def test_odd_rows_are_in_doubt(line: bytes) -> None:
    assert (plain_wordings(line + b"\n") or [None])[0] is None
    around = plain_wordings(b"\n".join([PLAIN[0], line, PLAIN[1]]))
    assert around is None or around[1] is None


# Put together here, so that no scanner of source code takes them for real ones.
SENSITIVE = [
    "AKIA" + "QYLPMN5HFIQR7XYA",
    "github_pat" + "_" + "0aB1cD2eF3" * 6,
    "glpat" + "-" + "0aB1cD2eF3" * 2,
    "sk" + "-proj-" + "A1b2C3d4E5" * 4,
    "sk" + "_live_" + "A1b2C3d4E5" * 3,
    "AI" + "za" + "A1b2C3d4E5" * 3 + "abcde",
    "hf" + "_" + "aBcDeFgHiJ" * 3 + "kLmN",
    "xoxb" + "-" + "123456789012-abcdefghijkl",
    "eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0" + ".dozjgNryP4J3jVmNHl0w5N",
    "(212) 867-4309",
    "(212)867-4309",
    "212.867.4309",
    "+1 (212) 867-4309",
    "4111 1111 1111 1111",
    "4111111111111111",
    "3782-822463-10005",
    "DE89 3704 0044 0532 0130 00",
    "GB82WEST12345698765432",
]


@pytest.mark.parametrize("found", SENSITIVE)
def test_whatever_the_search_finds_is_in_doubt(found: str) -> None:
    text = f"Is it {found} or not?"

    assert [*secrets_in(text), *personal_data_in(text)]
    assert plain_wordings(row(("user", text), A) + b"\n") == [None]


@pytest.mark.parametrize(
    "text",
    ["On 2019-01-02 and 2020-01-02 at 10:00", "A_name_that_is_really_quite_long", "1900 1950"],
)
def test_dates_and_long_names_are_beyond_doubt(text: str) -> None:
    assert plain_wordings(row(("user", text), A) + b"\n") != [None]


@pytest.mark.parametrize("seed", range(40))
def test_the_report_is_the_same_as_by_careful_reading(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "FIRST_BLOCK", 64)
    monkeypatch.setattr(blocks, "BLOCK", 2000)
    drawn = random.Random(seed)
    lines = [PLAIN[0], *drawn.choices(PLAIN, k=60), *drawn.choices(ODD, k=seed % 4)]
    drawn.shuffle(lines)
    content = b"\n".join([PLAIN[0], *lines]) + b"\n" * drawn.randrange(2)

    quick = validate(Sources(BytesIO(content)), ValidationOptions(minimum=1))
    monkeypatch.setattr(inspection, "plain_rows", lambda _: None)
    careful = validate(Sources(BytesIO(content)), ValidationOptions(minimum=1))

    assert quick == careful


@pytest.mark.parametrize("seed", range(4))
def test_tokens_are_the_same_as_by_careful_reading(
    seed: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(blocks, "FIRST_BLOCK", 64)
    monkeypatch.setattr(blocks, "BLOCK", 2000)
    byte_tokenizer().save_pretrained(tmp_path)
    drawn = random.Random(seed)
    lines = [*drawn.choices(PLAIN, k=60), *(row(("user", text), A) for text in SENSITIVE)]
    drawn.shuffle(lines)
    content = b"\n".join([PLAIN[0], *lines])
    options = ValidationOptions(minimum=1, model="tiny", max_length=90)

    def report() -> ValidationReport:
        return validate(Sources(BytesIO(content)), options, tokenizer=FolderTokenizer(tmp_path))

    quick = report()
    monkeypatch.setattr(inspection, "plain_rows", lambda _: None)

    assert quick == report()
    assert quick.tokens is not None
    assert quick.tokens.cut, "some are longer than the longest length"


def test_a_process_that_checks_does_not_wait_for_pandas() -> None:
    code = (
        "import sys; from tunesmith.dataset.plain_chat import plain_rows;"
        f"assert plain_rows({PLAIN[0]!r}); assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
