"""Text is made of tokens as they come: whole characters, and nothing of a stop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.tiny import byte_tokenizer
from tunesmith.inference.texts import Wording

TOKENIZER = byte_tokenizer().backend_tokenizer


def told(text: str, *stops: str) -> tuple[list[str], Wording]:
    """The parts in which `text`, a token for each byte, is told."""
    wording = Wording(TOKENIZER, stops)
    parts = []
    for token in TOKENIZER.encode(text, add_special_tokens=False).ids:
        parts.append(wording.add(token))
        if wording.stopped:
            break
    return [part for part in (*parts, wording.rest()) if part], wording


def test_a_character_of_many_bytes_is_told_once_it_is_whole() -> None:
    parts, _ = told("aé漢😀")
    assert parts == ["a", "é", "漢", "😀"]


@given(st.text(max_size=30))
def test_all_parts_together_are_the_text(text: str) -> None:
    parts, wording = told(text)
    assert "".join(parts) == text
    assert not wording.stopped


@given(st.text("abc", max_size=20), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_a_text_ends_before_the_first_stop(text: str, stops: list[str]) -> None:
    parts, wording = told(text, *stops)
    ends = [end for end in range(len(text) + 1) if any(text[:end].endswith(stop) for stop in stops)]
    if not ends:
        assert "".join(parts) == text
        assert not wording.stopped
        return
    said = text[: ends[0]]
    begin = min(len(said) - len(stop) for stop in stops if said.endswith(stop))
    assert "".join(parts) == text[:begin]
    assert wording.stopped


def test_what_may_become_a_stop_is_held_back_until_it_is_none() -> None:
    wording = Wording(TOKENIZER, ["end."])
    ids = TOKENIZER.encode("ends", add_special_tokens=False).ids

    assert [wording.add(token) for token in ids] == ["", "", "", "ends"]


@pytest.mark.parametrize("token", ["<|im_end|>", "<|im_start|>"])
def test_special_tokens_are_no_text(token: str) -> None:
    wording = Wording(TOKENIZER)
    assert wording.add(TOKENIZER.token_to_id(token)) == ""
    assert wording.rest() == ""
