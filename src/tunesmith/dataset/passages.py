"""Encodes queries and passages as models take them: with their special tokens, cut to a length.

For `embedding` each is a text of its own; for `rerank` a text is the query and one passage.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunesmith.dataset.examples import Ranking
from tunesmith.dataset.rendering import Encoded, SetAside, SetAsideRule
from tunesmith.domain.spec import RANKED, Method, RankingSpec

Side = Literal["query", "positive", "negative"]
"""What a text is: the query, a passage that answers it, one that does not."""


@dataclass(frozen=True, slots=True)
class RankedText(Encoded):
    """A text of a row, special tokens included; no token of it is learnt.

    `cut` tells whether a part of this very text lay beyond the greatest length.
    """

    side: Side
    """What it is; for `rerank`, what the passage is."""
    segments: array[int]
    """For each token, 0 where it is of the first text, 1 where it is of a second one."""
    whole: int
    """Tokens that it has uncut."""


def within_context(ranking: RankingSpec, *, method: Method, context: int | None) -> RankingSpec:
    """Return `ranking` with lengths that a model takes which takes `context` tokens at once.

    For `rerank` query and passage share them. `None` means that there is no bound.
    """
    if context is None:
        return ranking
    pairs = method is Method.RERANK
    query = min(ranking.query_max_len, context // 2 if pairs else context)
    passage = min(ranking.passage_max_len, context - query if pairs else context)
    return ranking.model_copy(update={"query_max_len": query, "passage_max_len": passage})


def longest_text(ranking: RankingSpec, *, method: Method) -> int:
    """Return the tokens of the longest text: of query and passage together for `rerank`."""
    both = ranking.query_max_len, ranking.passage_max_len
    return sum(both) if method is Method.RERANK else max(both)


def ranked_method(method: Method | None, *, of_reranker: bool) -> Method:
    """Return the method that rows of queries are seen by, where a file is for `method`.

    Where that is none of theirs, it is what the model is made for: `of_reranker` says that it
    scores texts.
    """
    if method in RANKED:
        return method
    return Method.RERANK if of_reranker else Method.EMBEDDING


class PassageEncoder:
    """Encodes rows by one tokenizer."""

    def __init__(self, backend: Any, ranking: RankingSpec, *, method: Method) -> None:
        """Encode by `backend`, a `tokenizers.Tokenizer`, which from now on neither cuts nor pads.

        `method` is `embedding` or `rerank`.
        """
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._ranking = ranking
        self._pairs = method is Method.RERANK
        # Where a batch lends no negatives, a row without its own has none at all.
        self._needs_negatives = self._pairs or not ranking.in_batch_negatives

    def encode(self, row: Ranking) -> tuple[RankedText, ...] | SetAside:
        """Return the texts of `row`: the query where it is one of its own, the passages behind it.

        Those that answer come first. The row is set aside where it has no negatives
        and needs some.
        """
        if self._needs_negatives and not row.negatives:
            reason = (
                "no passage is given that does not answer the query, so that there is nothing to "
                "tell the right one from. Add one to 'neg', or remove the row."
            )
            return SetAside(
                line=row.line,
                element=row.element,
                rule=SetAsideRule.NO_NEGATIVES,
                reason=f"{row.place}: {reason}",
            )
        make = self._of_pairs if self._pairs else self._of_texts
        return tuple(make(row))

    def _of_texts(self, row: Ranking) -> Iterator[RankedText]:
        query, *passages = self._encodings(row)
        special = self._backend.num_special_tokens_to_add(False)
        longest = self._ranking.query_max_len
        yield self._text(row, "query", parts=(query,), room=longest - special)
        for side, passage in zip(_sides(row), passages, strict=True):
            room = self._ranking.passage_max_len - special
            yield self._text(row, side, parts=(passage,), room=room)

    def _of_pairs(self, row: Ranking) -> Iterator[RankedText]:
        query, *passages = self._encodings(row)
        length = len(query)
        query.truncate(self._ranking.query_max_len)
        longest = longest_text(self._ranking, method=Method.RERANK)
        room = longest - self._backend.num_special_tokens_to_add(True) - len(query)
        for side, passage in zip(_sides(row), passages, strict=True):
            more = length - len(query)
            yield self._text(row, side, parts=(query, passage), room=room, more=more)

    def _encodings(self, row: Ranking) -> list[Any]:
        """Return the encodings of the query and of all passages, without special tokens."""
        asked = (row.prompt or self._ranking.query_instruction) + row.query
        before = self._ranking.passage_instruction
        passages = [before + passage for passage in (*row.positives, *row.negatives)]
        found: list[Any] = self._backend.encode_batch([asked, *passages], add_special_tokens=False)
        return found

    def _text(
        self, row: Ranking, side: Side, *, parts: Sequence[Any], room: int, more: int = 0
    ) -> RankedText:
        """Return the text of one or two encodings, of whose last one `room` tokens are kept.

        `more` is what the first one has lost already.
        """
        more += max(len(parts[-1]) - room, 0)
        parts[-1].truncate(room)
        found = self._backend.post_process(*parts)
        return RankedText(
            line=row.line,
            element=row.element,
            tokens=array("i", found.ids),
            learn=bytearray(len(found.ids)),
            cut=more > 0,
            side=side,
            segments=array("b", found.type_ids),
            whole=len(found.ids) + more,
        )


def _sides(row: Ranking) -> tuple[Side, ...]:
    sides: tuple[Side, Side] = ("positive", "negative")
    return sides[:1] * len(row.positives) + sides[1:] * len(row.negatives)
