"""A row is shown as training would see it, whatever holds it, and read no further than it."""

from __future__ import annotations

import gzip
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from models.tiny import bert_tokenizer, byte_tokenizer
from tunesmith.dataset.showing import show_row
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.domain.shown_rows import AskedRow, ShownRow, ShownText
from tunesmith.domain.spec import Method, Policy, RankingSpec
from tunesmith.domain.validation import ValidationOptions

ROWS = [{"prompt": f"What is {n} + 1?", "completion": f"It is {n + 1}."} for n in range(5)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> FolderTokenizer:
    folder = tmp_path_factory.mktemp("tiny")
    byte_tokenizer().save_pretrained(folder)
    return FolderTokenizer(folder)


def show(content: bytes, tokenizer: FolderTokenizer, line: int, **given: Any) -> ShownRow | None:
    asked = AskedRow(line=line, element=given.pop("element", None))
    options = ValidationOptions(**given)
    return show_row(BytesIO(content), options, tokenizer=tokenizer, asked=asked)


def only_text(row: ShownRow | None) -> ShownText:
    assert row is not None
    assert row.rule is None
    [text] = row.texts
    return text


def said(text: ShownText, *, learnt: bool) -> str:
    return "".join(p for p, each in zip(text.pieces, text.learnt, strict=True) if each is learnt)


def test_what_is_learnt_is_the_answer_and_its_end(tiny: FolderTokenizer) -> None:
    text = only_text(show(LINES, tiny, 3))

    assert said(text, learnt=True) == "It is 3.<|im_end|>"
    assert said(text, learnt=False) == (
        "<|im_start|>user\nWhat is 2 + 1?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert (text.side, text.cut, text.end_learnt) == (None, False, True)


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + LINES,
        gzip.compress(LINES),
        b"prompt,completion\nHi,Ho\nWhat is 2 + 1?,It is 3.\n",
    ],
    ids=["byte order mark", "gzip", "csv"],
)
def test_the_container_makes_no_difference(tiny: FolderTokenizer, content: bytes) -> None:
    assert said(only_text(show(content, tiny, 3)), learnt=True) == "It is 3.<|im_end|>"


def test_of_an_array_on_one_line_an_element_is_chosen(tiny: FolderTokenizer) -> None:
    array = json.dumps(ROWS).encode()

    first, fourth = show(array, tiny, 1), show(array, tiny, 1, element=4)

    assert first is not None
    assert first.element == 1
    assert said(only_text(fourth), learnt=True) == "It is 4.<|im_end|>"
    assert show(array, tiny, 1, element=6) is None


def test_where_there_is_no_row_there_is_nothing(tiny: FolderTokenizer) -> None:
    blank = LINES.replace(b"\n", b"\n\n", 1)

    assert show(LINES, tiny, 6) is None
    assert show(blank, tiny, 2) is None
    assert show(blank, tiny, 3) is not None


def test_lines_before_the_row_are_not_understood(tiny: FolderTokenizer) -> None:
    broken = b"{not json\n" + LINES

    assert said(only_text(show(broken, tiny, 2)), learnt=True) == "It is 1.<|im_end|>"


@pytest.mark.parametrize(
    ("content", "line", "rule"),
    [
        (LINES + b"{not json\n", 6, "invalid_json"),
        (LINES + b'{"prompt": 1, "completion": "x"}\n', 6, "wrong_type"),
        (b'{"prompt": "Say nothing.", "completion": ""}\n', 1, "empty_answer"),
        (LINES.decode().encode("utf-16"), 1, "not_utf8"),
    ],
)
def test_a_bad_row_is_shown_with_the_rule_that_it_breaks(
    tiny: FolderTokenizer, content: bytes, line: int, rule: str
) -> None:
    row = show(content, tiny, line)

    assert row is not None
    assert (row.rule, row.texts) == (rule, ())
    assert row.reason


def test_what_lies_beyond_the_longest_length_is_cut(tiny: FolderTokenizer) -> None:
    long = json.dumps({"prompt": "Go.", "completion": "on and on " * 20}).encode()

    text = only_text(show(long, tiny, 1, max_length=64))
    lost = show(long, tiny, 1, max_length=16)

    assert (text.cut, text.end_learnt, len(text.token_ids)) == (True, False, 64)
    assert lost is not None
    assert lost.rule == "answer_cut_away"


def test_a_pair_is_shown_as_both_its_answers(tiny: FolderTokenizer) -> None:
    pair = json.dumps({"question": "Hi", "chosen": "Hello.", "rejected": "No."}).encode()

    row = show(pair, tiny, 1, method=Method.DPO)

    assert row is not None
    assert [(text.side, said(text, learnt=True)) for text in row.texts] == [
        ("chosen", "Hello.<|im_end|>"),
        ("rejected", "No.<|im_end|>"),
    ]


def test_a_row_of_another_method_says_so(tiny: FolderTokenizer) -> None:
    row = show(LINES, tiny, 1, method=Method.DPO)

    assert row is not None
    assert row.rule == "wrong_method"


QUERY = json.dumps({"query": "a", "pos": ["b"], "neg": ["c", "dd"]}).encode()


def bert(folder: Path, **config: Any) -> FolderTokenizer:
    bert_tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config))
    return FolderTokenizer(folder)


def seen(row: ShownRow | None) -> list[tuple[str | None, str]]:
    assert row is not None
    return [(text.side, "".join(text.pieces)) for text in row.texts]


EMBEDDED = [
    ("query", "[CLS]a[SEP]"),
    ("positive", "[CLS]b[SEP]"),
    ("negative", "[CLS]c[SEP]"),
    ("negative", "[CLS]dd[SEP]"),
]
SCORED = [
    ("positive", "[CLS]a[SEP]b[SEP]"),
    ("negative", "[CLS]a[SEP]c[SEP]"),
    ("negative", "[CLS]a[SEP]dd[SEP]"),
]


@pytest.mark.parametrize(
    ("method", "texts"), [(Method.EMBEDDING, EMBEDDED), (Method.RERANK, SCORED)]
)
def test_a_query_is_shown_with_its_passages_of_which_nothing_is_learnt(
    tmp_path: Path, method: Method, texts: list[tuple[str, str]]
) -> None:
    row = show(QUERY, bert(tmp_path), 1, method=method)

    assert seen(row) == texts
    assert row is not None
    assert row.method is method
    assert not any(learnt for text in row.texts for learnt in text.learnt)


@pytest.mark.parametrize(
    ("architecture", "method", "texts"),
    [
        ("BertModel", Method.EMBEDDING, EMBEDDED),
        ("XLMRobertaForSequenceClassification", Method.RERANK, SCORED),
    ],
)
def test_where_no_method_is_named_a_query_is_shown_as_what_the_model_is_made_for(
    tmp_path: Path, architecture: str, method: Method, texts: list[tuple[str, str]]
) -> None:
    row = show(QUERY, bert(tmp_path, architectures=[architecture]), 1)

    assert seen(row) == texts
    assert row is not None
    assert row.method is method


def test_queries_and_passages_are_shown_with_a_jobs_lengths_and_instructions(
    tmp_path: Path,
) -> None:
    long = json.dumps({"query": "q" * 20, "pos": ["p" * 20], "neg": ["n"]}).encode()
    ranking = RankingSpec(
        query_max_len=8, passage_max_len=9, query_instruction="Q:", passage_instruction="P:"
    )

    row = show(long, bert(tmp_path), 1, method=Method.EMBEDDING, ranking=ranking)

    assert seen(row) == [
        ("query", "[CLS]Q:qqqq[SEP]"),
        ("positive", "[CLS]P:ppppp[SEP]"),
        ("negative", "[CLS]P:n[SEP]"),
    ]
    assert row is not None
    assert [text.cut for text in row.texts] == [True, True, False]


def test_a_query_without_negatives_is_set_aside_where_a_job_would_need_some(
    tmp_path: Path,
) -> None:
    bare = json.dumps({"query": "q", "pos": ["p"], "neg": []}).encode()
    tokenizer = bert(tmp_path)

    assert seen(show(bare, tokenizer, 1, method=Method.EMBEDDING))
    for given in (
        {"method": Method.RERANK},
        {"method": Method.EMBEDDING, "ranking": RankingSpec(in_batch_negatives=False)},
    ):
        row = show(bare, tokenizer, 1, **given)
        assert row is not None
        assert row.rule == "no_negatives"


@pytest.mark.parametrize("policy", [Policy.REFUSE, Policy.SET_ASIDE])
def test_what_is_too_long_is_not_shown_where_a_job_would_not_cut_it(
    tiny: FolderTokenizer, tmp_path: Path, policy: Policy
) -> None:
    long = json.dumps({"prompt": "Go.", "completion": "on and on " * 20}).encode()
    plain = json.dumps({"text": "abc" * 30}).encode()
    short = RankingSpec(query_max_len=8, passage_max_len=8)
    query = json.dumps({"query": "q" * 20, "pos": ["p"], "neg": ["n"]}).encode()

    rows = [
        show(long, tiny, 1, max_length=64, over_length=policy),
        show(long, tiny, 1, max_length=16, over_length=policy),
        show(plain, tiny, 1, max_length=64, over_length=policy),
        show(query, bert(tmp_path), 1, ranking=short, over_length=policy),
    ]

    for row, key in zip(rows, ["max_length"] * 3 + ["query_max_len"], strict=True):
        assert row is not None
        assert (row.rule, row.texts) == ("over_length", ())
        assert key in (row.reason or "")
    fits = show(LINES, tiny, 1, max_length=64, over_length=policy)
    assert only_text(fits).end_learnt


def test_turns_of_weight_0_are_read_and_not_learnt(tiny: FolderTokenizer) -> None:
    messages = [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "No.", "weight": 0},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "Yes."},
    ]

    text = only_text(show(json.dumps({"messages": messages}).encode(), tiny, 1))

    assert said(text, learnt=True) == "Yes.<|im_end|>"
    assert "No." in said(text, learnt=False)


def test_a_thought_stands_between_the_marks_that_a_job_would_have(tiny: FolderTokenizer) -> None:
    row = json.dumps({"Question": "1+1?", "Complex_CoT": "Hm.", "Response": "2"}).encode()

    usual = only_text(show(row, tiny, 1))
    other = only_text(show(row, tiny, 1, think=("[t]", "[/t]")))

    assert said(usual, learnt=True) == "<think>\nHm.\n</think>\n\n2<|im_end|>"
    assert said(other, learnt=True) == "[t]\nHm.\n[/t]\n\n2<|im_end|>"


def test_a_plain_text_is_learnt_in_windows_but_for_its_first_token(tiny: FolderTokenizer) -> None:
    plain = json.dumps({"text": "abc" * 30}).encode()

    row = show(plain, tiny, 1, max_length=64)

    assert row is not None
    assert len(row.texts) == 2
    assert [text.learnt.count(False) for text in row.texts] == [1, 1]
