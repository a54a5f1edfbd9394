"""A model is asked with the very tokens behind which it has learnt to answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.tiny import byte_tokenizer
from tunesmith.dataset.examples import Example, Message, Text
from tunesmith.dataset.prompting import chat_prompt, end_tokens, text_prompt
from tunesmith.dataset.rendering import Encoded, SetAside, encode
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.domain.errors import InvalidRequestError

ASKED = (Message("system", "Be brief.", learn=False), Message("user", "Why?", learn=False))
ANSWER = Message("assistant", "Because.", learn=True)

NO_END = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
OTHER_END = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }} {{ m['content'] }}<|im_start|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    byte_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def learnt(example: Example | Text, tokenizer: FolderTokenizer) -> Encoded:
    encoded = encode(example, tokenizer, max_length=1000)
    assert not isinstance(encoded, SetAside)
    return encoded[0]


@pytest.mark.parametrize("template", [None, NO_END, OTHER_END])
def test_a_conversation_is_asked_as_it_was_learnt(folder: Path, template: str | None) -> None:
    tokenizer = FolderTokenizer(folder)
    if template is not None:
        tokenizer.chat_template = template
    text = learnt(Example(messages=(*ASKED, ANSWER), tools=(), line=1, element=0), tokenizer)
    first, last = text.learn.index(1), len(text.tokens) - 1

    assert chat_prompt(ASKED, tokenizer) == list(text.tokens[:first])
    assert text.tokens[last] in end_tokens(tokenizer)


def test_a_text_is_continued_from_where_it_began_in_training(folder: Path) -> None:
    tokenizer = FolderTokenizer(folder)
    text = learnt(Text(text="Once upon a time", line=1, element=0), tokenizer)

    prompt = text_prompt("Once upon", tokenizer)

    assert prompt == list(text.tokens[: len(prompt)])
    assert text.tokens[-1] in end_tokens(tokenizer)


def test_a_model_without_a_template_is_asked_by_the_one_that_training_uses(folder: Path) -> None:
    tokenizer = FolderTokenizer(folder)
    tokenizer.chat_template = None

    assert chat_prompt(ASKED, tokenizer)
    assert tokenizer.chat_template


def test_what_a_template_refuses_is_refused_with_its_words(folder: Path) -> None:
    tokenizer = FolderTokenizer(folder)
    tokenizer.chat_template = "{{ raise_exception('no system message') }}"

    with pytest.raises(InvalidRequestError, match="no system message") as refused:
        chat_prompt(ASKED, tokenizer)

    assert refused.value.param == "messages"
    assert end_tokens(tokenizer) == {tokenizer.backend.token_to_id("<|im_end|>")}
