"""Makes text of tokens as they come, up to what ends it."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What bytes are read as that are a part of a character."""


class Wording:
    """The text of one answer. It is told as soon as nothing that comes can change it."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = ()) -> None:
        """Read tokens by `tokenizer`, up to the first of `stops`."""
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        self._tokens: list[int] = []
        self._kept_from = 0
        self._read_to = 0
        self._held = ""
        self.stopped = False
        """Whether one of the stops was said, before which the text ends."""

    def add(self, token: int) -> str:
        """Return what is sure of the text with `token`, behind what was told before."""
        self._tokens.append(token)
        # Tokens mean something else at the beginning of a text than within: so a few before them
        # are read along.
        before = self._decoded(self._tokens[self._kept_from : self._read_to])
        now = self._decoded(self._tokens[self._kept_from :])
        if now.endswith(_UNFINISHED):
            return ""
        self._kept_from, self._read_to = self._read_to, len(self._tokens)
        return self._told(now[len(before) :])

    def rest(self) -> str:
        """Return what was held back, once no token comes any more."""
        if self.stopped:
            return ""
        before = self._decoded(self._tokens[self._kept_from : self._read_to])
        left = self._decoded(self._tokens[self._kept_from :])[len(before) :]
        self._read_to = self._kept_from = len(self._tokens)
        told = self._told(left)
        held, self._held = self._held, ""
        return told + ("" if self.stopped else held)

    def _told(self, text: str) -> str:
        """Return what of `text`, and of what is held, is no part of a stop."""
        text, self._held = self._held + text, ""
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            return text[: min(found)]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def _decoded(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))


def _overlap(text: str, stop: str) -> int:
    """Return with how many characters `text` ends that `stop` begins with."""
    most = min(len(text), len(stop) - 1)
    return next((size for size in range(most, 0, -1) if text.endswith(stop[:size])), 0)
