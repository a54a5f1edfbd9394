"""Plain texts are learnt whole: each token but the first, in windows that lose nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from tunesmith.dataset.examples import Text
from tunesmith.dataset.rendering import SetAside, SetAsideRule, encode
from tunesmith.dataset.texts import whole_text, window_starts
from tunesmith.dataset.tokenizer import FolderTokenizer

MakeTokenizer = Callable[..., Any]


def windows(text: str, tokenizer: Any, max_length: int) -> list[list[int]]:
    found = encode(Text(4, text, 2), tokenizer, max_length=max_length)
    assert not isinstance(found, SetAside), found.reason
    for window in found:
        assert (window.line, window.element, window.cut) == (4, 2, False)
        assert list(window.learn) == [0] + [1] * (len(window.tokens) - 1)
    return [list(window.tokens) for window in found]


def test_a_text_ends_with_the_token_that_ends_texts_which_is_learnt(
    make_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_tokenizer(None, eos_token="</s>")
    [tokens] = windows("Once upon", tokenizer, 100)
    assert tokenizer.decode(tokens) == "Once upon</s>"
    assert tokens[-1] == tokenizer.eos_token_id


def test_a_text_begins_with_a_token_only_where_the_tokenizer_puts_it_there(
    make_tokenizer: MakeTokenizer, tmp_path: Path
) -> None:
    silent = make_tokenizer(None, bos_token="<s>", eos_token="</s>")
    assert whole_text("x", silent) == "x</s>"
    speaking = make_tokenizer(None, bos_token="<s>", eos_token="</s>")
    begin = ("<s>", speaking.bos_token_id)
    speaking.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[begin]
    )
    assert whole_text("x", speaking) == "<s>x</s>"
    speaking.save_pretrained(tmp_path)
    assert whole_text("x", FolderTokenizer(tmp_path)) == "<s>x</s>", "the report counts the same"


def test_a_tokenizer_without_such_tokens_adds_none(make_tokenizer: MakeTokenizer) -> None:
    assert whole_text("x", make_tokenizer(None)) == "x"


def test_a_window_begins_with_the_last_token_of_the_one_before(
    make_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_tokenizer(None, eos_token="</s>")
    found = windows("abcdefghij", tokenizer, 4)
    assert [tokenizer.decode(tokens) for tokens in found] == ["abcd", "defg", "ghij", "j</s>"]


@given(tokens=st.integers(2, 300), max_length=st.integers(2, 50))
def test_each_token_but_the_first_is_learnt_once(tokens: int, max_length: int) -> None:
    learnt = [
        at
        for start in window_starts(tokens, max_length)
        for at in range(start + 1, min(start + max_length, tokens))
    ]
    assert learnt == list(range(1, tokens))


def test_a_single_token_is_set_aside_since_nothing_stands_before_it(
    make_tokenizer: MakeTokenizer,
) -> None:
    found = encode(Text(4, "a"), make_tokenizer(None), max_length=8)
    assert isinstance(found, SetAside)
    assert (found.rule, found.line) == (SetAsideRule.EMPTY_ANSWER, 4)


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_text_is_set_aside(make_tokenizer: MakeTokenizer, text: str) -> None:
    found = encode(Text(4, text), make_tokenizer(None, eos_token="</s>"), max_length=8)
    assert isinstance(found, SetAside)
    assert found.rule is SetAsideRule.EMPTY_ANSWER
