"""10,000 broken training files: each is accepted or refused with a place, and none raises.

Real rows are those of `../shared/data`, where they are; generated ones are always there.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunesmith.dataset.reading import read_examples
from unit.dataset.checking import check

SHARED = Path(__file__).parents[3].parent / "shared" / "data"
SEED = 20_261
CALL = {"name": "f", "arguments": '{"a": 1}'}
FUNCTION = {"name": "f", "parameters": {"type": "object"}}
USER = {"role": "user", "content": "Grüße 🙂"}
ANSWER = {"role": "assistant", "content": "a\nb", "weight": 1}
GENERATED: list[dict[str, Any]] = [
    {"messages": [{"role": "system", "content": "s"}, USER, ANSWER]},
    {
        "messages": [
            USER,
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c", "type": "function", "function": CALL}],
            },
            {"role": "tool", "tool_call_id": "c", "content": "r"},
            ANSWER,
        ],
        "tools": [{"type": "function", "function": FUNCTION}],
    },
    {"prompt": "p", "completion": " c"},
    {"instruction": "i", "input": "x", "output": "o", "history": [["q", "a"]]},
    {
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": json.dumps(CALL)},
            {"from": "observation", "value": "r"},
            {"from": "gpt", "value": "a"},
        ],
        "tools": json.dumps([FUNCTION]),
    },
    {
        "input": {"messages": [USER]},
        "preferred_output": [{"role": "assistant", "content": "c"}],
        "non_preferred_output": [{"role": "assistant", "content": "r"}],
    },
    {
        "conversations": [{"from": "human", "value": "q"}],
        "chosen": {"from": "gpt", "value": "c"},
        "rejected": {"from": "gpt", "value": "r"},
    },
    {"system": "s", "question": "q", "chosen": "c", "rejected": "r"},
    {"text": "t"},
    {"Question": "q", "Complex_CoT": "t", "Response": "r"},
    {"query": "q", "pos": ["p"], "neg": ["n", "m"]},
]
VALUES: list[Any] = [
    None, True, 0, -1, 1.5, 10**30, float("nan"), float("inf"), "", " ", "x", "\ud800", "\0", "{}",
    "[[", '"\\ud800"', [], {}, [[]], {"": None}, {"\udfff": 1}, "system", "tool", "function_call",
    "[" * 2000, "9" * 5000, CALL, {"~/": {"a/b": 0}},
]  # fmt: skip


def mutated(value: Any, chance: random.Random) -> Any:
    """Return `value` with one place of it replaced, removed, doubled, renamed or nested."""
    if not isinstance(value, dict | list) or not value or chance.random() < 0.1:
        return chance.choice([*VALUES, [[[[value]]]], {"a": {"b": value}}])
    if isinstance(value, list):
        at = chance.randrange(len(value))
        changed = [*value[:at], mutated(value[at], chance), *value[at + 1 :]]
        return chance.choice([changed, changed, value[:at] + value[at + 1 :], [*value, value[at]]])
    key = chance.choice(list(value))
    rest = {other: item for other, item in value.items() if other != key}
    inside = value | {key: mutated(value[key], chance)}
    return chance.choice([inside, inside, inside, rest, rest | {key + "s": value[key]}])


def as_lines(rows: list[Any]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def as_array(rows: list[Any]) -> bytes:
    return json.dumps(rows, indent=1, ensure_ascii=False).encode(errors="surrogatepass")


def as_csv(rows: list[Any]) -> bytes:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(rows[0])
    for row in rows:
        cells = row.values() if isinstance(row, dict) else [row]
        table.writerow([cell if isinstance(cell, str) else json.dumps(cell) for cell in cells])
    return text.getvalue().encode(errors="surrogatepass")


def as_gzip(rows: list[Any]) -> bytes:
    return gzip.compress(as_lines(rows), 1)


def as_zstd(rows: list[Any]) -> bytes:
    return bytes(pa.compress(as_lines(rows), codec="zstd", asbytes=True))


def as_parquet(rows: list[Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


WRITERS = (as_lines, as_lines, as_array, as_csv, as_gzip, as_zstd)


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Return `content` with some of its bytes changed, cut, doubled or encoded anew."""
    at, to = sorted(chance.randrange(len(content) + 1) for _ in range(2))
    byte = bytes([chance.randrange(256)])
    name = chance.choice(["utf-16", "utf-32", "latin-1"])
    ways: list[Callable[[], bytes]] = [
        lambda: content[:at] + byte + content[at + 1 :],
        lambda: content[:at] + byte * chance.randrange(1, 9) + content[at:],
        lambda: content[:at],
        lambda: content[at:],
        lambda: content[:at] + content[to:],
        lambda: content[:to] + content[at:],
        lambda: content.decode(errors="replace").encode(name, "replace"),
    ]
    return chance.choice(ways)()


def real_rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for path in sorted(SHARED.glob("*_demo.json*")):
        text = path.read_text("utf-8")
        found = (
            json.loads(text)
            if path.suffix == ".json"
            else [json.loads(line) for line in text.splitlines()]
        )
        rows.extend(found[:8])
    return rows


def broken_file(rows: list[dict[str, Any]], chance: random.Random) -> bytes:
    row = chance.choice(rows)
    good = [row] * chance.randrange(3)
    kind = chance.random()
    if kind < 0.4:
        return chance.choice(WRITERS)([*good, row]) if kind < 0.01 else _damaged(good, row, chance)
    changed = mutated(row, chance)
    while chance.random() < 0.3:
        changed = mutated(changed, chance)
    if kind < 0.45 and isinstance(changed, dict) and changed:
        first = json.dumps(dict([next(iter(changed.items()))]))[:-1]
        return as_lines(good) + b"\n" + first.encode() + b"," + json.dumps(changed)[1:].encode()
    return chance.choice(WRITERS)([*good, row, changed])


def _damaged(good: list[Any], row: Any, chance: random.Random) -> bytes:
    content = chance.choice(WRITERS)([*good, row])
    return damaged(damaged(content, chance) if chance.random() < 0.3 else content, chance)


def assert_told(content: bytes, case: str) -> bool:
    """Check a file, and tell whether it was refused, which must have been told with a place."""
    try:
        report = check(io.BytesIO(content), method=None, minimum=1)
        report.report.model_dump_json()
    except Exception as error:  # noqa: BLE001  any at all is what is looked for
        pytest.fail(f"{case}: {error!r} at {content[:2000]!r}")
    if report.ok:
        assert report.examples, case
        read = sum(1 for _ in read_examples(io.BytesIO(content), method=None, limit=None))
        assert read == report.examples + report.unanswered, case
        return False
    assert report.problems, case
    assert report.problem_count == sum(report.counts.values()) >= len(report.problems), case
    for problem in report.problems:
        whole = problem.line == 0 and not problem.pointer
        assert whole or f"ine {problem.line}" in problem.message, (case, problem)
        assert not problem.pointer or problem.pointer in problem.message, (case, problem)
    return True


@pytest.mark.parametrize("source", ["generated", "published"])
def test_each_of_5000_broken_files_is_accepted_or_refused_with_its_place(source: str) -> None:
    rows = GENERATED if source == "generated" else real_rows()
    if not rows:
        pytest.skip("the published files are not beside this repository")
    assert all(check(io.BytesIO(as_lines([row])), method=None, minimum=1).ok for row in rows)
    refused = 0
    for number in range(5000):
        seed = f"{SEED}/{source}/{number}"
        refused += assert_told(broken_file(rows, random.Random(seed)), f"seed {seed!r}")
    assert 3000 < refused < 4950, "some are good, and many are bad"


@pytest.mark.parametrize("number", range(10))
def test_a_broken_parquet_file_is_accepted_or_refused_with_its_row(number: int) -> None:
    chance = random.Random(f"{SEED}/parquet/{number}")
    content = damaged(as_parquet([chance.choice(GENERATED)] * 20), chance)
    report = check(io.BytesIO(content), method=None, minimum=1)
    assert report.ok or report.problems
    for problem in report.problems:
        assert problem.line == 0 or f" {problem.line}" in problem.message
