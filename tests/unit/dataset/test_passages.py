"""Queries and passages are encoded as transformers encodes them, and cut where asked."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from models.tiny import bert_tokenizer
from tunesmith.dataset.examples import Ranking
from tunesmith.dataset.passages import PassageEncoder, RankedText
from tunesmith.dataset.rendering import SetAside
from tunesmith.domain.spec import Method, RankingSpec
from unit.dataset.checking import check

ROW = Ranking(3, "who", ("he", "she"), ("nobody at all",), element=2)


def encode(row: Ranking, method: Method, **ranking: Any) -> tuple[RankedText, ...] | SetAside:
    backend = bert_tokenizer().backend_tokenizer
    return PassageEncoder(backend, RankingSpec(**ranking), method=method).encode(row)


def texts(row: Ranking, method: Method, **ranking: Any) -> list[tuple[str, str, bool]]:
    found = encode(row, method, **ranking)
    assert not isinstance(found, SetAside)
    decode = bert_tokenizer().decode
    return [(text.side, decode(list(text.tokens)).replace(" ", "_"), text.cut) for text in found]


def test_an_embedding_row_is_its_query_and_each_passage_alone() -> None:
    assert texts(ROW, Method.EMBEDDING) == [
        ("query", "[CLS]who[SEP]", False),
        ("positive", "[CLS]he[SEP]", False),
        ("positive", "[CLS]she[SEP]", False),
        ("negative", "[CLS]nobody_at_all[SEP]", False),
    ]


def test_a_rerank_row_is_a_pair_for_each_passage_with_its_parts_told_apart() -> None:
    found = encode(ROW, Method.RERANK)
    assert not isinstance(found, SetAside)
    theirs = bert_tokenizer()

    for text, passage in zip(found, ("he", "she", "nobody at all"), strict=True):
        wanted = theirs("who", passage)
        assert list(text.tokens) == wanted["input_ids"]
        assert list(text.segments) == wanted["token_type_ids"]
        assert (text.line, text.element, text.learn.count(1)) == (3, 2, 0)
    assert [text.side for text in found] == ["positive", "positive", "negative"]


def test_texts_are_cut_at_their_own_length_and_keep_their_end() -> None:
    long = Ranking(1, "q" * 20, ("p" * 20,), ("n" * 7,))

    assert texts(long, Method.EMBEDDING, query_max_len=8, passage_max_len=9) == [
        ("query", f"[CLS]{'q' * 6}[SEP]", True),
        ("positive", f"[CLS]{'p' * 7}[SEP]", True),
        ("negative", f"[CLS]{'n' * 7}[SEP]", False),
    ]
    assert texts(long, Method.RERANK, query_max_len=8, passage_max_len=11) == [
        ("positive", f"[CLS]{'q' * 8}[SEP]{'p' * 8}[SEP]", True),
        ("negative", f"[CLS]{'q' * 8}[SEP]{'n' * 7}[SEP]", True),
    ]


def test_instructions_go_before_and_a_rows_own_prompt_in_their_place() -> None:
    asked = {"query_instruction": "Q:", "passage_instruction": "P:"}
    own = Ranking(1, "a", ("b",), (), prompt="R:")

    assert texts(Ranking(1, "a", ("b",), ()), Method.EMBEDDING, **asked) == [
        ("query", "[CLS]Q:a[SEP]", False),
        ("positive", "[CLS]P:b[SEP]", False),
    ]
    assert texts(own, Method.EMBEDDING, **asked)[0][1] == "[CLS]R:a[SEP]"


@pytest.mark.parametrize(
    ("method", "ranking", "taken"),
    [
        (Method.EMBEDDING, {}, True),
        (Method.EMBEDDING, {"in_batch_negatives": False}, False),
        (Method.RERANK, {}, False),
    ],
)
def test_a_row_without_negatives_is_set_aside_where_nothing_else_is_one(
    method: Method, ranking: dict[str, Any], taken: bool
) -> None:
    found = encode(Ranking(3, "a", ("b",), ()), method, **ranking)

    assert isinstance(found, SetAside) is not taken
    if isinstance(found, SetAside):
        assert (found.line, found.rule) == (3, "no_negatives")
        assert "Add one to 'neg'" in found.reason


@pytest.mark.parametrize("method", [Method.EMBEDDING, Method.RERANK])
def test_the_methods_take_rows_of_queries_and_refuse_too_few(method: Method) -> None:
    row = b'{"query": "a", "pos": ["b"], "neg": ["c"]}\n'

    assert check(BytesIO(row * 10), method=method).ok
    assert "at least 10 are needed" in check(BytesIO(row * 9), method=method).refusal
    other = b'{"text": "a"}\n' * 10
    assert "Use one of rerank" in check(BytesIO(other), method=method).refusal


def test_the_backend_neither_cuts_nor_pads_any_more(tmp_path: Path) -> None:
    backend = bert_tokenizer().backend_tokenizer
    backend.enable_truncation(4)
    backend.enable_padding(length=50)

    found = PassageEncoder(backend, RankingSpec(), method=Method.EMBEDDING).encode(ROW)

    assert not isinstance(found, SetAside)
    assert [len(text.tokens) for text in found] == [5, 4, 5, 15]
