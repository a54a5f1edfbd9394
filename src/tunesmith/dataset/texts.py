"""Plain texts: how one is written for a model, and which windows it is learnt in."""

from __future__ import annotations

from tunesmith.dataset.turns import Tokenizer


def whole_text(text: str, tokenizer: Tokenizer) -> str:
    """Return `text` and the token that ends it, behind the one that begins texts.

    A text begins with that token only where the tokenizer itself puts it there.
    """
    with_it, without = (
        tokenizer("a", add_special_tokens=added, return_offsets_mapping=False)["input_ids"][:1]
        for added in (True, False)
    )
    begin = tokenizer.bos_token if with_it != without else None
    return f"{begin or ''}{text}{tokenizer.eos_token or ''}"


def window_starts(tokens: int, max_length: int) -> range:
    """Return at which token each window of a text of `tokens` begins, the first at 0.

    Each has `max_length` tokens, the last perhaps fewer. It begins with the last
    token of the one before, behind which its own first token is learnt, so that each
    token of the text but its first is learnt once. A single token makes no window.
    """
    return range(0, max(tokens - 1, 0), max_length - 1)
