"""Looks for what should not be learnt: broken text, secrets, personal data.

All are warnings: what a text looks like is a guess. A message names the place
and the kind, never the thing itself, so that a report can be shown around.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tunesmith.dataset.problems import Problem, Rule, place
from tunesmith.dataset.rows import Row
from tunesmith.dataset.sensitive import (
    personal_data_in,
    personal_marks,
    secret_marks,
    secrets_in,
)

_CONTROLS = bytes({*range(32), 127} - set(b"\t\n\r"))
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# UTF-8 of two bytes or of typographic marks, each byte taken for a character of Latin-1 or
# Windows-1252; and the character that decoders put where a byte fits nowhere.
_BROKEN = re.compile("\ufffd|[ÃÂ][\x80-\xbf]|â€[\x80-\xbf™œ\u0153\u0161\u2018-\u201e\u2020-\u2030]")
_BROKEN_MARKS = ("\ufffd".encode(), "Ã".encode(), "Â".encode(), "â€".encode())


class Guess(NamedTuple):
    """A kind of thing to look for."""

    rule: Rule
    """What finding it means."""
    find: Callable[[str], Iterator[tuple[int, str]]]
    """Returns where each stands in a text, in characters, and what it is; never what it says."""
    mend: str
    """What to do about it."""


def _controls(text: str) -> Iterator[tuple[int, str]]:
    for match in _CONTROL.finditer(text):
        yield match.start(), f"the control character U+{ord(match.group()):04X}"


def _broken(text: str) -> Iterator[tuple[int, str]]:
    for match in _BROKEN.finditer(text):
        unknown = match.group() == "\ufffd"
        yield (
            match.start(),
            "the replacement character U+FFFD" if unknown else "UTF-8 read as Latin-1",
        )


_CONTROLS_GUESS = Guess(Rule.CONTROL_CHARACTERS, _controls, "Remove it.")
_BROKEN_GUESS = Guess(
    Rule.BROKEN_CHARACTERS, _broken, "Decode the source again with its own encoding."
)
_SECRETS_GUESS = Guess(
    Rule.SUSPECTED_SECRET, secrets_in, "Remove it, and revoke it if it was ever in use."
)
_PERSONAL_GUESS = Guess(
    Rule.PERSONAL_DATA, personal_data_in, "Replace it, unless its owner agreed to its use."
)


def content_problems(row: Row, words: str) -> Iterator[Problem]:
    """Yield what should perhaps not be learnt of `row`, whose example says `words`.

    At most one problem of a rule is yielded for each text of the row.
    """
    guesses = _suspected(words.encode())
    if not guesses:
        return
    for pointer, text in _texts(row.value, ""):
        for guess in guesses:
            found = next(guess.find(text), None)
            if found is not None:
                yield _problem(row, pointer, guess=guess, found=found)


def _suspected(words: bytes) -> list[Guess]:
    """Return the guesses that `words` give cause for: most give none, and cost no search."""
    guesses = []
    # C1 controls are two bytes in UTF-8, the first of which is this.
    if len(words.translate(None, _CONTROLS)) < len(words) or b"\xc2" in words:
        guesses.append(_CONTROLS_GUESS)
    if not words.isascii() and any(mark in words for mark in _BROKEN_MARKS):
        guesses.append(_BROKEN_GUESS)
    if secret_marks(words):
        guesses.append(_SECRETS_GUESS)
    if personal_marks(words):
        guesses.append(_PERSONAL_GUESS)
    return guesses


def _texts(value: object, pointer: str) -> Iterator[tuple[str, str]]:
    """Yield each text in `value`, the row's or a part of it, with its JSON pointer."""
    waiting = [(pointer, value)]
    while waiting:
        at, part = waiting.pop()
        if isinstance(part, str):
            yield at, part
        elif isinstance(part, dict):
            parts = [(f"{at}/{_escaped(key)}", item) for key, item in part.items()]
            waiting.extend(reversed(parts))
        elif isinstance(part, list):
            waiting.extend((f"{at}/{index}", part[index]) for index in reversed(range(len(part))))


def _escaped(key: str) -> str:
    """Return `key` as RFC 6901, section 3, writes it; half a character is told by its escape."""
    return key.encode(errors="backslashreplace").decode().replace("~", "~0").replace("/", "~1")


def _problem(row: Row, pointer: str, *, guess: Guess, found: tuple[int, str]) -> Problem:
    at, what = found
    where = place(row.line, row.element, pointer=pointer)
    return Problem(
        line=row.line,
        element=row.element,
        pointer=pointer,
        rule=guess.rule,
        message=f"{where}, character {at + 1}: {what}. {guess.mend}",
    )
