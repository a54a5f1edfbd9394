"""Tells how many tokens texts have, and which of them begin in which part of a text.

Where a vocabulary is of bytes, as those of most models today are, the lengths
of the tokens tell where each begins, so that the offsets need not be computed:
they take a third of the time. That the lengths add up to the text is checked
for each text; where they do not, the offsets decide.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from tokenizers import Encoding
from tokenizers import Tokenizer as Backend

from tunesmith.dataset.rendering import Rendered

Counted = tuple[int, list[slice]]
"""The tokens of a text, and for each of its spans which of them begin in it."""


class SpanCounter:
    """Counts by one tokenizer."""

    def __init__(self, backend: Backend) -> None:
        """Count by `backend`, which neither cuts nor pads."""
        self._backend = backend
        self._normalized = backend.normalizer is not None
        self._bytes = _byte_lengths(backend) if _is_of_bytes(backend) else None

    def count(self, texts: Sequence[Rendered]) -> Iterator[Counted]:
        """Yield the counts of each of `texts`, in order."""
        written = [text.text for text in texts]
        if self._bytes is None:
            found = self._backend.encode_batch(written, add_special_tokens=False)
            yield from map(_by_offsets, found, texts)
            return
        quick = self._backend.encode_batch_fast(written, add_special_tokens=False)
        for encoding, text in zip(quick, texts, strict=True):
            counted = self._by_lengths(encoding.ids, text, lengths=self._bytes)
            if counted is None:
                exact = self._backend.encode(text.text, add_special_tokens=False)
                counted = _by_offsets(exact, text)
            yield counted

    def _by_lengths(
        self, ids: Sequence[int], text: Rendered, *, lengths: Sequence[int]
    ) -> Counted | None:
        """Return the counts of `text`; `None` where the tokens are not simply its bytes."""
        plain = text.text.isascii()
        if self._normalized and not (plain or unicodedata.is_normalized("NFC", text.text)):
            return None
        starts = list(accumulate(map(lengths.__getitem__, ids), initial=0))
        places = [place for span in text.spans for place in span]
        if not plain:
            places = [len(text.text[:place].encode()) for place in places]
        if starts.pop() != (len(text.text) if plain else len(text.text.encode())):
            return None
        found = [bisect_left(starts, place) for place in places]
        return len(ids), [slice(*found[at : at + 2]) for at in range(0, len(found), 2)]


def tokens_in(encoding: Encoding, span: tuple[int, int]) -> slice:
    """Return which tokens begin inside `span`, as `rendering.learnt_tokens` does.

    To ask for two of them is several times quicker than to fetch all offsets.
    """
    return slice(*(_first_token(encoding, position) for position in span))


def _by_offsets(encoding: Encoding, text: Rendered) -> Counted:
    return len(encoding), [tokens_in(encoding, span) for span in text.spans]


def _first_token(encoding: Encoding, position: int) -> int:
    """Return the first token that begins at the character `position` or behind it."""
    count = len(encoding)
    end = _start(encoding, count - 1) if count else -1
    for at in range(position, end + 1):
        token = encoding.char_to_token(at)
        # Blanks may belong to no token.
        if token is not None:
            while token < count and _start(encoding, token) < position:
                token += 1
            return token
    return count


def _start(encoding: Encoding, token: int) -> int:
    found = encoding.token_to_chars(token)
    return found[0] if found else 0


def _is_of_bytes(backend: Backend) -> bool:
    """Tell whether tokens may be the bytes of the text, and offsets begin where they do."""
    normalizers = [backend.normalizer] if backend.normalizer else []
    # It may leave leading blanks out of the offsets, so that these begin later.
    trims = "trim_offsets=True" in repr(backend.post_processor)
    plain = all(type(each).__name__ == "NFC" for each in normalizers)
    return plain and not trims and type(backend.decoder).__name__ == "ByteLevel"


def _byte_lengths(backend: Backend) -> list[int]:
    """Return how many bytes each token stands for, by its id; each letter of a token is one."""
    added = backend.get_added_tokens_decoder()
    vocabulary = backend.get_vocab(with_added_tokens=True)
    lengths = [0] * (max(vocabulary.values(), default=-1) + 1)
    for token, id in vocabulary.items():
        lengths[id] = len(token.encode()) if id in added else len(token)
    return lengths
