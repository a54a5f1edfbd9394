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
from tunesmith.domain.spec import Method, RankingSpec

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
        cut = _truncated(query, self._ranking.query_max_len)
        longest = self._ranking.query_max_len + self._ranking.passage_max_len
        room = longest - self._backend.num_special_tokens_to_add(True) - len(query)
        for side, passage in zip(_sides(row), passages, strict=True):
            yield self._text(row, side, parts=(query, passage), room=room, cut=cut)

    def _encodings(self, row: Ranking) -> list[Any]:
        """Return the encodings of the query and of all passages, without special tokens."""
        asked = (row.prompt or self._ranking.query_instruction) + row.query
        before = self._ranking.passage_instruction
        passages = [before + passage for passage in (*row.positives, *row.negatives)]
        found: list[Any] = self._backend.encode_batch([asked, *passages], add_special_tokens=False)
        return found

    def _text(
        self, row: Ranking, side: Side, *, parts: Sequence[Any], room: int, cut: bool = False
    ) -> RankedText:
        """Return the text of one or two encodings, of whose last one `room` tokens are kept."""
        shortened = _truncated(parts[-1], room)
        whole = self._backend.post_process(*parts)
        return RankedText(
            line=row.line,
            element=row.element,
            tokens=array("i", whole.ids),
            learn=bytearray(len(whole.ids)),
            cut=cut or shortened,
            side=side,
            segments=array("b", whole.type_ids),
        )


def _truncated(encoding: Any, room: int) -> bool:
    """Cut `encoding` to `room` tokens; return whether there were more."""
    longer = len(encoding) > room
    if longer:
        encoding.truncate(room)
    return longer


def _sides(row: Ranking) -> tuple[Side, ...]:
    sides: tuple[Side, Side] = ("positive", "negative")
    return sides[:1] * len(row.positives) + sides[1:] * len(row.negatives)
