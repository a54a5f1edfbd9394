"""With a model, the report tells what training would make of each example."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from transformers import AutoTokenizer

from models.tiny import byte_tokenizer
from tunesmith.dataset.examples import Example
from tunesmith.dataset.reading import read_examples
from tunesmith.dataset.rendering import SetAside, encode
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.dataset.validation import Sources, validate
from tunesmith.domain.spec import Method, Policy
from tunesmith.domain.validation import TokenReport, ValidationOptions, ValidationReport


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    byte_tokenizer().save_pretrained(folder)
    return folder


def row(asked: str, *answers: str) -> bytes:
    turns = [{"role": "user", "content": asked}]
    for answer in answers:
        turns += [{"role": "assistant", "content": answer}, {"role": "user", "content": "And?"}]
    return orjson.dumps({"messages": turns[:-1]})


def pair(asked: str, chosen: str, rejected: str) -> bytes:
    preferred = [{"role": "assistant", "content": chosen}]
    other = [{"role": "assistant", "content": rejected}]
    asking = {"messages": [{"role": "user", "content": asked}]}
    return orjson.dumps(
        {"input": asking, "preferred_output": preferred, "non_preferred_output": other}
    )


ROWS = [row("a" * length, "b" * length, "c" * 5) for length in (1, 10, 60, 200)]


def measured(
    rows: list[bytes], folder: Path, **options: Any
) -> tuple[ValidationReport, TokenReport]:
    chosen = ValidationOptions.model_validate({"model": "tiny", "minimum": 1} | options)
    tokenizer = FolderTokenizer(folder)
    report = validate(Sources(BytesIO(b"\n".join(rows))), chosen, tokenizer=tokenizer)
    assert report.tokens is not None
    return report, report.tokens


@pytest.mark.parametrize("max_length", [1000, 120, 40])
def test_totals_are_those_of_the_examples_that_training_would_encode(
    folder: Path, max_length: int
) -> None:
    theirs = AutoTokenizer.from_pretrained(folder)
    examples = read_examples(BytesIO(b"\n".join(ROWS)), method=Method.SUPERVISED, limit=None)
    encoded = [
        encode(example, theirs, max_length=max_length)
        for example in examples
        if isinstance(example, Example)
    ]
    kept = [text for item in encoded if not isinstance(item, SetAside) for text in item]

    report, tokens = measured(ROWS, folder, max_length=max_length, n_epochs=2)

    assert tokens.total == sum(len(text.tokens) for text in kept)
    assert tokens.learnt == sum(text.learnt for text in kept)
    assert tokens.cut == sum(text.cut for text in kept)
    assert tokens.set_aside == sum(isinstance(item, SetAside) for item in encoded)
    assert report.estimate is not None
    assert report.estimate.trained_tokens == 2 * tokens.total


def test_percentiles_and_histogram_are_of_the_lengths_before_cutting(folder: Path) -> None:
    rows = [row("x", "y" * size) for size in range(1, 101)]
    shortest = measured(rows[:1], folder)[1].total

    _, tokens = measured(rows, folder, max_length=8)

    assert tokens.percentiles["p50"] == shortest + 49
    assert tokens.percentiles["p99"] == shortest + 98
    assert tokens.percentiles["max"] == shortest + 99
    assert tokens.mean == shortest + 49.5
    assert sum(bar.examples for bar in tokens.histogram) == 100
    assert tokens.histogram[-1].upto >= shortest + 99
    assert tokens.histogram[-1].examples == sum(
        shortest + more > tokens.histogram[-1].upto // 2 for more in range(100)
    )


@pytest.mark.parametrize(
    ("policy", "severity", "set_aside"),
    [(Policy.CUT, "warn", 0), (Policy.SET_ASIDE, "warn", 1), (Policy.REFUSE, "error", 1)],
)
def test_what_is_too_long_is_cut_set_aside_or_refused_by_the_policy(
    folder: Path, policy: Policy, severity: str, set_aside: int
) -> None:
    rows = [row("Hi", "short"), row("Hi", "x" * 100)]

    report, tokens = measured(rows, folder, max_length=80, over_length=policy)

    (found,) = report.findings
    assert (found.rule, found.line, found.severity) == ("over_length", 2, severity)
    assert "the longest length is 80" in found.message
    assert (report.ok, tokens.set_aside) == (severity == "warn", set_aside)
    assert tokens.cut == (policy is Policy.CUT)


def test_an_answer_that_is_cut_away_entirely_is_set_aside_and_told(folder: Path) -> None:
    report, tokens = measured([row("x" * 100, "y")], folder, max_length=50)

    assert report.counts == {"over_length": 1, "answer_cut_away": 1, "nothing_learnt": 1}
    assert not report.ok, "a job would find nothing to learn"
    assert (tokens.set_aside, tokens.total, report.estimate) == (1, 0, None)


def test_the_models_own_context_bounds_the_length(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 64}')

    assert measured(ROWS, tmp_path)[1].max_length == 64
    assert measured(ROWS, tmp_path, max_length=32)[1].max_length == 32


def test_a_template_that_refuses_a_conversation_is_told_with_its_place(
    folder: Path, tmp_path: Path
) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    refuse = "{% if messages[0].content == 'no' %}{{ raise_exception('Not this!') }}{% endif %}"
    old = (folder / "chat_template.jinja").read_text()
    (tmp_path / "chat_template.jinja").write_text(refuse + old)

    report, tokens = measured([row("yes", "y"), row("no", "n")], tmp_path)

    (found,) = report.findings
    assert (found.rule, found.line) == ("template_refused", 2)
    assert "Not this!" in found.message
    assert tokens.set_aside == 1


def test_a_pair_is_one_unit_of_a_batch_and_counts_both_answers(folder: Path) -> None:
    rows = [pair("Hi", f"good {number}", "bad") for number in range(8)]

    report, tokens = measured(rows, folder, batch_size=4, n_epochs=1, method=Method.DPO)

    single = measured([row("Hi", "bad")], folder)[1]
    assert report.estimate is not None
    assert report.estimate.steps == 2
    assert tokens.total > 8 * 2 * single.total
    assert tokens.set_aside == 0


def test_queries_and_passages_are_counted_but_none_of_their_tokens_is_learnt(folder: Path) -> None:
    report, tokens = measured([orjson.dumps({"query": "Once?", "pos": ["Twice."]})], folder)

    assert (report.format, tokens.total, tokens.learnt) == ("rerank", 5 + 6, 0)


def test_a_text_counts_whole_and_makes_a_unit_for_each_window(folder: Path) -> None:
    rows = [orjson.dumps({"text": "x" * 99}), orjson.dumps({"text": "y" * 9})]

    report, tokens = measured(
        rows, folder, method=Method.PRETRAINING, max_length=40, batch_size=2, n_epochs=1
    )

    # 100 tokens with the end, in windows of 40 that share one: 0-39, 39-78 and 78-99.
    assert tokens.percentiles["max"] == 100
    assert (tokens.learnt, tokens.total) == (99 + 9, 102 + 10)
    assert (tokens.cut, tokens.set_aside, report.findings) == (0, 0, ())
    assert report.estimate is not None
    assert report.estimate.steps == 2


@pytest.mark.parametrize("policy", [Policy.SET_ASIDE, Policy.REFUSE])
def test_a_long_text_is_set_aside_or_refused_where_the_policy_says_so(
    folder: Path, policy: Policy
) -> None:
    rows = [orjson.dumps({"text": "x" * 99}), orjson.dumps({"text": "y" * 9})]

    report, tokens = measured(
        rows, folder, method=Method.PRETRAINING, max_length=40, over_length=policy
    )

    assert [(found.rule, found.line) for found in report.findings] == [("over_length", 1)]
    assert (tokens.total, tokens.set_aside) == (10, 1)
