"""What becomes of examples that are longer than a job takes, where they are not to be cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.dataset.pairing import is_of_length
from tunesmith.dataset.problems import place
from tunesmith.dataset.rendering import Encoded, SetAside, SetAsideRule
from tunesmith.domain.spec import Method, RankingSpec


@dataclass(frozen=True)
class Bound:
    """The greatest length, for messages."""

    words: str
    """The length in words."""
    key: str
    """What a request calls it."""

    @classmethod
    def of(cls, method: Method | None, *, max_length: int, ranking: RankingSpec | None) -> Bound:
        """Return the bound of a job by `method`; `ranking` is of queries and passages alone."""
        if ranking is None:
            return cls(f"{max_length} tokens", "max_length")
        query, passage = ranking.query_max_len, ranking.passage_max_len
        if method is Method.EMBEDDING:
            words = f"{query} tokens in the query or {passage} in a passage"
        else:
            words = f"{query} tokens in the query or {query + passage} in query and passage"
        return cls(words, "query_max_len or passage_max_len")


def too_long(
    texts: Sequence[Encoded] | SetAside, *, windows: bool, bound: Bound
) -> SetAside | None:
    """Return that the example of `texts` is longer than `bound`; `None` where it is not.

    That is where something of them was cut, or all. Where they are `windows`, more than one tells
    that the whole is too long.
    """
    if isinstance(texts, SetAside):
        if not is_of_length(texts):
            return None
        line, element = texts.line, texts.element
    elif (windows and len(texts) > 1) or any(text.cut for text in texts):
        line, element = texts[0].line, texts[0].element
    else:
        return None
    where = place(line, element)
    reason = f"{where}: it has more than {bound.words}. Shorten it, or raise {bound.key}."
    return SetAside(line=line, element=element, rule=SetAsideRule.OVER_LENGTH, reason=reason)
