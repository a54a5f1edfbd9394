"""Turns as chat templates take them, and where a turn that a template wrote ends."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tunesmith.dataset.examples import Message, ToolCall


class Tokenizer(Protocol):
    """The part of transformers' fast tokenizers that is used here."""

    chat_template: Any
    """The Jinja template of a conversation; `None` where the model has none."""

    @property
    def bos_token(self) -> str | None:
        """The token that begins a text."""

    @property
    def eos_token(self) -> str | None:
        """The token that ends a text."""

    @property
    def all_special_tokens(self) -> Sequence[str]:
        """The tokens that are no text, in their written form."""

    def apply_chat_template(
        self,
        conversation: list[dict[str, Any]],
        *,
        tools: list[Any] | None,
        tokenize: bool,
        add_generation_prompt: bool,
    ) -> Any:
        """Return the text of the conversation, where `tokenize` is false."""

    def __call__(
        self, text: str, *, add_special_tokens: bool, return_offsets_mapping: bool
    ) -> Mapping[str, Any]:
        """Return `input_ids` and, as pairs of characters, `offset_mapping`."""


def turn_of(message: Message) -> dict[str, Any]:
    """Return `message` in OpenAI's form, its arguments decoded, as templates expect them."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = [_call(call) for call in message.tool_calls]
    if message.role == "tool":
        turn |= {"tool_call_id": message.tool_call_id, "name": message.name}
    return turn


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def learnt_size(turn: str, message: Message, *, tokenizer: Tokenizer) -> tuple[int, bool]:
    """Return how much of an answer's `turn` is learnt, and whether a special token ends it.

    The turn's end is the first special token behind the content, or the last one
    where the template rewrote the content, so that it cannot be found. Where
    there is none, it is the last character that is no blank. Calls of tools may
    be wrapped in special tokens, so that behind their names the last one counts.
    """
    found = _special_spans(turn, tokenizer)
    last = found[-1][0] if found else len(turn)
    if message.tool_calls:
        behind: int | None = turn.rfind(message.tool_calls[-1].name) + 1
    else:
        behind = _content_end(turn, message.content.strip(), last=last)
    ends = [end for start, end in found if start >= (last if behind is None else behind)]
    if ends:
        return ends[-1 if message.tool_calls else 0], True
    return max(len(turn.rstrip()), behind or 0), False


def _content_end(turn: str, content: str, *, last: int) -> int | None:
    """Return where `content` ends in `turn`, whose last special token begins at `last`.

    A short content may also be found by chance in what surrounds it, such as an
    "e" in "<|im_end|>", so that the places to look at are ordered.
    """
    blanks = len(turn) - len(turn.lstrip())
    at = blanks if turn.startswith(content, blanks) else turn.rfind(content, 0, last)
    return at + len(content) if at >= 0 else None


def _special_spans(turn: str, tokenizer: Tokenizer) -> list[tuple[int, int]]:
    """Return where each special token in `turn` begins and ends."""
    tokens = _special_tokens(*tokenizer.all_special_tokens, tokenizer.eos_token or "")
    return [match.span() for match in tokens.finditer(turn)]


@functools.lru_cache(maxsize=4)
def _special_tokens(*tokens: str) -> re.Pattern[str]:
    """Return a pattern that finds each of `tokens`, the longer one where two begin alike."""
    written = sorted({*tokens} - {""}, key=len, reverse=True)
    # What matches nowhere, where there is none.
    return re.compile("|".join(map(re.escape, written)) or r"(?!)")


def said_in(turn: str, answer: str, *, tokenizer: Tokenizer) -> tuple[str, str]:
    """Return what stands before `answer` in `turn`, and what ends the turn behind it.

    The end goes up to the first special token behind the answer; where the turn
    has none, it is the token that ends a text, since a model that never sees an
    end never stops. Where the answer is not found, nothing stands before it.
    """
    found = _special_spans(turn, tokenizer)
    last = found[-1][0] if found else len(turn)
    behind = _content_end(turn, answer, last=last) or _content_end(turn, answer, last=len(turn))
    first = last if behind is None else behind
    stop = next((stop for start, stop in found if start >= first), None)
    before = "" if behind is None else turn[: behind - len(answer)]
    return before, (tokenizer.eos_token or "") if stop is None else turn[first:stop]
