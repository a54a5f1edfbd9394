from __future__ import annotations

import gzip
import io
import json
import random
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from tunesmith.dataset.examples import AnyExample, Example, Message
from tunesmith.dataset.formats import Format, Parser
from tunesmith.dataset.problems import Problem, Rule
from tunesmith.dataset.reading import read_examples
from tunesmith.dataset.rows import Row
from tunesmith.domain.spec import Method
from unit.dataset.checking import check

SHARED = Path(__file__).parents[3].parent / "shared" / "data"
ALPACA = {"instruction": "i", "output": "o"}
PROMPT = {"prompt": "p", "completion": " c"}
SHAREGPT = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}


def parse(value: object) -> AnyExample | tuple[Problem, ...]:
    return Parser(Method.SUPERVISED).parse(Row(3, value))


def lines(*rows: Any) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def shared(name: str) -> BinaryIO:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{name} is not beside this repository")
    return path.open("rb")


def test_a_prompt_is_the_users_and_its_completion_keeps_its_leading_blank() -> None:
    found = parse(PROMPT)
    assert isinstance(found, Example)
    assert found.messages == (
        Message("user", "p", learn=False),
        Message("assistant", " c", learn=True),
    )
    assert (
        check(io.BytesIO(lines(*[PROMPT] * 10)), method=Method.SUPERVISED).format
        == Format.PROMPT_COMPLETION
    )


def test_alpacas_system_and_history_come_first_and_are_not_learnt() -> None:
    found = parse(ALPACA | {"system": "s", "history": [["q", "a"]]})
    assert isinstance(found, Example)
    assert found.messages == (
        Message("system", "s", learn=False),
        Message("user", "q", learn=False),
        Message("assistant", "a", learn=False),
        Message("user", "i", learn=False),
        Message("assistant", "o", learn=True),
    )
    assert parse(ALPACA | {"system": "", "history": []}) == parse(ALPACA)


@pytest.mark.parametrize(
    ("history", "pointer"),
    [("x", "/history"), ([7], "/history/0"), ([["q"]], "/history/0"), ([["q", 7]], "/history/0/1")],
)
def test_a_bad_history_is_met_with_its_place(history: object, pointer: str) -> None:
    found = parse(ALPACA | {"history": history})
    assert isinstance(found, tuple)
    assert [problem.pointer for problem in found] == [pointer]


@pytest.mark.parametrize(
    ("row", "name", "method"),
    [
        ({"conversations": [], "chosen": {}, "rejected": {}}, Format.RANKING, "dpo"),
        (ALPACA | {"chosen": "c", "rejected": "r"}, Format.RANKING, "dpo"),
        ({"input": {}, "preferred_output": []}, Format.PREFERENCE, "dpo"),
        ({"question": "q", "chosen": "c", "rejected": "r"}, Format.OPEA_DPO, "dpo"),
        ({"Question": "q", "Complex_CoT": "t", "Response": "r"}, Format.REASONING, "reasoning"),
        ({"query": "q", "pos": ["p"], "neg": ["n"]}, Format.RERANK, "embedding or rerank"),
        ({"query": "q", "pos": ["p"], "prompt": "x"}, Format.RERANK, "embedding or rerank"),
        ({"text": "t"}, Format.TEXT, "pretraining"),
    ],
)
def test_formats_of_other_methods_are_refused_once_by_their_name(
    row: object, name: Format, method: str
) -> None:
    report = check(io.BytesIO(lines(*[row] * 30)), method=Method.SUPERVISED)
    assert report.format == name
    assert [problem.rule for problem in report.problems] == [Rule.WRONG_METHOD]
    text = report.refusal
    assert text.startswith(f"Line 1: the file is in the format '{name}'")
    assert "'supervised'" in text
    assert f"it is for {method}" in text


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("dpo_en_demo.json", Format.RANKING),
        ("c4_demo.jsonl", Format.TEXT),
        ("rerank_en_demo.jsonl", Format.RERANK),
        ("embedding_nq_demo.jsonl", Format.RERANK),
    ],
)
def test_published_files_of_other_methods_are_known(name: str, format: Format) -> None:  # noqa: A002
    with shared(name) as file:
        report = check(file, method=Method.SUPERVISED)
    assert (report.format, report.problem_count) == (format, 1)


def test_a_published_sharegpt_file_with_tools_is_ok() -> None:
    with shared("glaive_toolcall_en_demo.json") as file:
        report = check(file, method=Method.SUPERVISED)
        file.seek(0)
        found = list(read_examples(file, method=Method.SUPERVISED, limit=None))
    assert report.ok, report.refusal
    assert (report.format, report.examples, report.unanswered) == (Format.SHAREGPT, 300, 0)
    conversations = [item for item in found if isinstance(item, Example)]
    assert sum(len(turn.tool_calls) for item in conversations for turn in item.messages) == 211


@pytest.mark.parametrize("content", [lines(*[ALPACA] * 10), json.dumps([ALPACA] * 10).encode()])
def test_a_packed_file_reads_as_its_text(content: bytes) -> None:
    assert check(io.BytesIO(gzip.compress(content)), method=Method.SUPERVISED) == check(
        io.BytesIO(content), method=Method.SUPERVISED
    )


def test_a_fault_in_a_packed_file_has_the_texts_line() -> None:
    report = check(io.BytesIO(gzip.compress(lines(ALPACA, 7))), method=Method.SUPERVISED)
    assert report.refusal == "Line 2: expected an object, found a number."


def test_a_packed_file_that_is_cut_or_damaged_is_refused_at_its_line() -> None:
    noise = random.Random(1)
    rows = [ALPACA | {"output": noise.randbytes(500).hex()} for _ in range(2000)]
    packed = gzip.compress(lines(*rows))
    for bad in (packed[:-9], packed[:600_000], packed + b"x", packed[:12], packed[:2]):
        report = check(io.BytesIO(bad), method=Method.SUPERVISED)
        assert report.problems[-1].rule == Rule.INVALID_GZIP
        assert report.problems[-1].line >= 1
        assert "Pack it again" in report.problems[-1].message


def test_a_file_that_unpacks_beyond_reason_is_refused() -> None:
    bomb = gzip.compress(b" " * (70 * 2**20))
    assert [item.rule for item in check(io.BytesIO(bomb), method=Method.SUPERVISED).problems] == [
        Rule.UNPACKED_TOO_LARGE
    ]
    twice = gzip.compress(gzip.compress(lines(ALPACA)))
    assert not check(io.BytesIO(twice), minimum=1, method=Method.SUPERVISED).ok, (
        "only one layer is unpacked"
    )


FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object"}}
CALL = {"name": "f", "arguments": '{"a": [1]}'}
SEEDS: list[dict[str, Any]] = [
    {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "q"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c", "type": "function", "function": CALL}],
            },
            {"role": "tool", "tool_call_id": "c", "content": "r"},
            {"role": "assistant", "content": "a", "weight": 1},
        ],
        "tools": [{"type": "function", "function": FUNCTION}],
        "parallel_tool_calls": True,
    },
    {
        "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": None, "function_call": CALL},
            {"role": "function", "name": "f", "content": "r"},
            {"role": "assistant", "content": "a"},
        ],
        "functions": [FUNCTION],
    },
    PROMPT,
    ALPACA | {"input": "x", "system": "s", "history": [["q", "a"]]},
    {
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": json.dumps(CALL)},
            {"from": "observation", "value": "r"},
            {"from": "gpt", "value": "a"},
        ],
        "system": "s",
        "tools": json.dumps([FUNCTION]),
    },
]
VALUES: list[Any] = [
    None, True, 0, -1, 1.5, 10**30, "", " ", "x", "\ud800", "{}", "[[", '"\\ud800"', [], {}, [[]],
    {"": None}, "system", "tool", "function_call", "[" * 99999, '{"a": 1e999}', "9" * 5000, CALL,
]  # fmt: skip


def mutated(value: Any, chance: random.Random) -> Any:
    """Return `value` with one place of it replaced, removed, doubled or renamed."""
    if not isinstance(value, dict | list) or not value or chance.random() < 0.1:
        return chance.choice(VALUES)
    if isinstance(value, list):
        at = chance.randrange(len(value))
        changed = [*value[:at], mutated(value[at], chance), *value[at + 1 :]]
        return chance.choice([changed, changed, value[:at] + value[at + 1 :], [*value, value[at]]])
    key = chance.choice(list(value))
    rest = {other: item for other, item in value.items() if other != key}
    inside = value | {key: mutated(value[key], chance)}
    return chance.choice([inside, inside, inside, rest, rest | {key + "s": value[key]}])


@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_each_of_2000_mutated_rows_is_accepted_or_refused_with_its_place(seed: int) -> None:
    chance = random.Random(seed)
    assert isinstance(parse(SEEDS[seed]), Example)
    refused = 0
    for _ in range(2000):
        row = mutated(SEEDS[seed], chance)
        row = mutated(row, chance) if chance.random() < 0.3 else row
        found = parse(row)
        if isinstance(found, Example):
            json.dumps(
                [[turn.content, [call.arguments for call in turn.tool_calls]]
                 for turn in found.messages],
                ensure_ascii=False, default=str,
            ).encode()  # fmt: skip
            continue
        assert isinstance(found, tuple)
        assert found
        refused += 1
        for problem in found:
            place = f"Line 3, {problem.pointer}: " if problem.pointer else "Line 3: "
            assert problem.message.startswith(place)
            problem.message.encode()
            assert_exists(problem.pointer, row)
    assert 200 < refused < 2000, "some are good, and many are bad"


def assert_exists(pointer: str, value: Any) -> None:
    for part in pointer.split("/")[1:]:
        value = value[int(part) if isinstance(value, list) else part]
