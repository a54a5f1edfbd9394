"""Encodes the two answers of a preference pair, which are learnt together or not at all."""

from __future__ import annotations

from tunesmith.dataset.examples import Example, Pair
from tunesmith.dataset.rendering import Encoded, SetAside, SetAsideRule, encode
from tunesmith.dataset.turns import Tokenizer


def encode_pair(
    row: Pair, tokenizer: Tokenizer, *, max_length: int
) -> tuple[Encoded, ...] | SetAside:
    """Return the chosen text of `row` and the rejected one, or why neither is trained on."""
    pair: list[Encoded] = []
    aside: list[SetAside] = []
    for answer in (row.chosen, row.rejected):
        side = Example(row.line, (*row.prompt, answer), row.element, row.tools)
        encoded = encode(side, tokenizer, max_length=max_length)
        if isinstance(encoded, SetAside):
            aside.append(encoded)
        else:
            pair.extend(encoded)
    # Another length would mend an answer that is cut away, but nothing else.
    return min(aside, key=is_of_length) if aside else tuple(pair)


def is_of_length(one: SetAside) -> bool:
    """Tell whether a greater length would let the example be trained on."""
    return one.rule is SetAsideRule.ANSWER_CUT_AWAY
