"""A row of a training file as a model would see it, before any job learns from it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tunesmith.domain.spec import Method
from tunesmith.domain.values import Value


class AskedRow(Value):
    """Which row of a file is to be shown."""

    line: Annotated[int, Field(ge=1)]
    """Line on which it begins, from 1."""
    element: int | None = None
    """Its number in the file's array, from 1; `None` means the first on that line."""


class ShownText(Value):
    """One of the texts that a row would be learnt as."""

    side: Literal["chosen", "rejected", "query", "positive", "negative"] | None
    """Of a preference pair, the answer; of a query with passages, what the text is."""
    cut: bool
    """Whether a part of what is to be learnt lies beyond the longest length; of a query or a
    passage, whether any part of it does."""
    end_learnt: bool
    """Whether the last token learnt is one that ends the answer."""
    token_ids: tuple[int, ...]
    """Its token ids, at most the longest length of them."""
    pieces: tuple[str, ...]
    """What each token stands for; half a character is shown as U+FFFD."""
    learnt: tuple[bool, ...]
    """Whether the loss would be taken on each token."""


class ShownRow(Value):
    """What would become of a row."""

    line: int
    """Line on which it begins, from 1."""
    element: int
    """Its number in the file's array, from 1; 0 where the file is no array."""
    method: Method | None = None
    """By which it is seen: the one that was named, or else the one that such rows are for, and of
    queries with passages the one that the model is for; `None` where it was not understood."""
    rule: str | None = None
    """Why it would not be learnt from, as a stable id; `None` where it would be."""
    reason: str | None = None
    """The same in words, with the mend."""
    texts: tuple[ShownText, ...] = ()
    """What it would be learnt as; empty where it would not be."""
