"""The report before a job says what the job's receipt says afterwards."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from tempfile import gettempdir
from types import SimpleNamespace
from typing import Any, cast

import pytest
from transformers import AutoTokenizer

from tunesmith.dataset.passages import longest_text, within_context
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.dataset.validation import Sources, validate
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.spec import THINK_MARKS, Method, Policy, RankingSpec, TrainSpec
from tunesmith.domain.validation import ValidationOptions, ValidationReport
from tunesmith.training.reading import FileReport, read_file

SIZES = [(asked, said) for asked in (1, 30, 90) for said in (0, 1, 30, 90)]
ALPACA = [{"instruction": "i" * asked, "output": "é" * said} for asked, said in SIZES]
CHAT = [
    {
        "messages": [
            {"role": "user", "content": "q" * asked},
            {"role": "assistant", "content": "a" * (said + 1)},
            {"role": "user", "content": "More?"},
            {"role": "assistant", "content": "b" * asked},
        ]
    }
    for asked, said in SIZES
]
PAIRS = [
    {"prompt": "i" * asked, "chosen": "c" * (90 - said), "rejected": "r" * said}
    for asked, said in SIZES
]
TEXTS = [{"text": "é" * said + "i" * asked} for asked, said in SIZES]
THOUGHTS = [
    {"Question": "q" * asked, "Complex_CoT": "t" * said, "Response": "é" * (91 - said)}
    for asked, said in SIZES
]
QUERIES = [
    {"query": "q" * asked, "pos": ["p" * said, "p"], "neg": ["n" * asked] * (said % 3)}
    for asked, said in SIZES
    if said
]
FILES = {
    Method.SUPERVISED: (ALPACA, CHAT),
    Method.DPO: (PAIRS,),
    Method.REASONING: (THOUGHTS,),
    Method.PRETRAINING: (TEXTS,),
}
CASES = [
    (method, rows, max_length)
    for method, files in FILES.items()
    for rows in files
    for max_length in (70, 120, 500)
]


def report_on(content: bytes, folder: Path, **options: Any) -> ValidationReport:
    wanted = ValidationOptions.model_validate({"model": "tiny", **options})
    return validate(Sources(BytesIO(content)), wanted, tokenizer=FolderTokenizer(folder))


def receipt_of(content: bytes, folder: Path, **options: Any) -> FileReport:
    fixed = {"bad_rows": Policy.REFUSE, "think": THINK_MARKS, "ranking": None}
    spec = cast("TrainSpec", SimpleNamespace(**(fixed | options)))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return read_file(
        BytesIO(content), tokenizer, spec=spec, limit=None, folder=Path(gettempdir())
    ).report


@pytest.mark.parametrize("method", [Method.EMBEDDING, Method.RERANK])
@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("lengths", [(20, 40), (40, 20), (400, 400)])
def test_texts_of_queries_are_told_as_the_receipt_tells_them(
    method: Method, policy: Policy, lengths: tuple[int, int], bert_folder: Path
) -> None:
    content = b"".join(json.dumps(row).encode() + b"\n" for row in QUERIES)
    ranking = RankingSpec(query_max_len=lengths[0], passage_max_len=lengths[1])
    options = {"method": method, "over_length": policy, "ranking": ranking}

    report = report_on(content, bert_folder, minimum=1, **options)

    assert report.tokens is not None
    assert report.estimate is None or report.estimate.trained_tokens is None
    shorter = within_context(ranking, method=method, context=256)
    spec = options | {"ranking": shorter, "max_length": 1}
    if policy is Policy.REFUSE and not report.ok:
        with pytest.raises(InvalidRequestError, match="query_max_len or passage_max_len"):
            receipt_of(content, bert_folder, **spec)
        return
    receipt = receipt_of(content, bert_folder, **spec)
    tokens = report.tokens
    assert (tokens.total, tokens.learnt, tokens.cut) == (receipt.tokens, 0, receipt.cut)
    told = {rule: count for rule, count in report.counts.items() if rule in receipt.set_aside}
    assert told == receipt.set_aside
    assert report.tokens.set_aside == sum(told.values())
    assert report.tokens.max_length == longest_text(shorter, method=method)


@pytest.mark.parametrize(("method", "rows", "max_length"), CASES)
@pytest.mark.parametrize("policy", Policy)
def test_tokens_and_what_is_set_aside_are_those_of_the_receipt(
    method: Method, rows: list[Any], max_length: int, policy: Policy, base_folder: Path
) -> None:
    content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    options = {"method": method, "max_length": max_length, "over_length": policy}

    report = report_on(content, base_folder, minimum=1, **options)

    assert report.tokens is not None
    if policy is Policy.REFUSE and not report.ok:
        with pytest.raises(InvalidRequestError) as refused:
            receipt_of(content, base_folder, **options)
        assert refused.value.code == "over_length"
        return
    receipt = receipt_of(content, base_folder, **options)
    assert (report.tokens.total, report.tokens.learnt, report.tokens.cut) == (
        receipt.tokens,
        receipt.learnt_tokens,
        receipt.cut,
    )
    told = {rule: count for rule, count in report.counts.items() if rule in receipt.set_aside}
    assert told == receipt.set_aside
    assert report.tokens.set_aside == sum(told.values()) - told.get("empty_answer", 0)
