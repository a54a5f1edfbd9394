"""What all that continues texts has in common, on processors and on graphics cards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tunesmith.inference.engine import Text


class ElsewhereError(Exception):
    """The question is to be answered on processors; the message says why."""


class Continuing(Protocol):
    """One model and the texts that it continues."""

    @property
    def longest(self) -> int:
        """Tokens of the longest text, prompt and answer."""

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""

    def say(self, text: Text) -> None:
        """Continue `text` as soon as there is room for it.

        Raises `ValueError` where its prompt leaves no room for an answer, or the engine is closed.
        """

    def cancel(self, text: Text) -> None:
        """Leave `text` where it is: nobody wants it any more."""
