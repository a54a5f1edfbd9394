"""Decides what a repair makes of a row: kept as it is, freed of control characters, or dropped.

Only what needs no judgement is done. The text of a row is never written anew:
what is kept of it are its own bytes, with its numbers, blanks and escapes.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from enum import StrEnum
from hashlib import blake2b

from tunesmith.dataset.content import content_problems
from tunesmith.dataset.examples import AnyExample, Pair
from tunesmith.dataset.findings import KEPT
from tunesmith.dataset.formats import Parser
from tunesmith.dataset.problems import Problem, Rule
from tunesmith.dataset.rows import BLANK, Decoder, Row, line_row
from tunesmith.dataset.wording import wording
from tunesmith.domain.repair import Change, RepairReport


class Mend(StrEnum):
    """What a repair does; those that mend what the check tells of have the rule's id."""

    BYTE_ORDER_MARK = "byte_order_mark"
    """A byte order mark at the beginning of a line was taken out."""
    CRLF = "crlf"
    """A line that ended with carriage return and line feed ends with the line feed alone."""
    BLANK_LINE = "blank_line"
    """A line of blanks was dropped."""
    JSON_ARRAY = "json_array"
    """Each element of a JSON array was put on a line of its own."""
    PRETTY_PRINTED = "pretty_printed"
    """An object that was spread over several lines was put on one."""
    CONTROL_CHARACTERS = "control_characters"
    """Control characters were taken out of the texts of a row."""
    DUPLICATE = "duplicate"
    """A row was dropped, since an earlier one is the same example."""
    EMPTY_ANSWER = "empty_answer"
    """A row was dropped, since its answer is empty, so that training leaves it out."""


_WHAT = {
    Mend.BYTE_ORDER_MARK: "A byte order mark was taken out.",
    Mend.CRLF: "The line ends with a line feed alone.",
    Mend.BLANK_LINE: "The line was dropped: it is blank.",
    Mend.JSON_ARRAY: "Each element of the array was put on a line of its own.",
    Mend.PRETTY_PRINTED: "The object was put on one line.",
    Mend.CONTROL_CHARACTERS: "Control characters were taken out of its texts.",
    Mend.DUPLICATE: "The row was dropped: an earlier one is the same example.",
    Mend.EMPTY_ANSWER: "The row was dropped: its answer is empty.",
}
# In valid JSON a text with a colon behind it is a key, and an escape stands in texts alone.
_TEXT = re.compile(r'("[^"\\]*+(?:\\.[^"\\]*+)*+")([ \t\r\n]*:)?')
_CONTROL = re.compile(
    r"\\(?:u00(?:0[0-8bcefBCEF]|1[0-9a-fA-F]|7[fF]|[89][0-9a-fA-F])|[bf])|[\x7f-\x9f]|(\\.)"
)


class Mending:
    """Decides on the rows of one file, in their order, and counts what was done.

    Of each example that is kept a hash of 128 bits is remembered, about 100 bytes.
    """

    def __init__(self) -> None:
        """Know no row yet."""
        self.examples = 0
        """Rows that are kept and can be learnt from."""
        self._parser = Parser(None)
        self._decoder = Decoder()
        self._kept = set[bytes]()
        self._mended, self._unmended = Counter[Mend](), Counter[Rule]()
        self._changes: list[Change] = []

    def note(self, mend: Mend, line: int) -> None:
        """Count `mend`, which was made on `line`."""
        self._mended[mend] += 1
        if self._mended[mend] <= KEPT:
            self._changes.append(Change(line=line, rule=mend.value, what=_WHAT[mend]))

    def leave(self, rule: Rule) -> None:
        """Count a breach of `rule` that stays."""
        self._unmended[rule] += 1

    def row(self, row: Row | Problem, text: str) -> str | None:
        """Return what is kept of `row`, whose JSON is `text`; `None` where it is dropped."""
        settled = self._parser.format
        example = self._parsed(row)
        if example is None or isinstance(row, Problem):
            return text
        row, mended, example = self._without_controls(row, text, example=example)
        needless = self._needless(example)
        if needless is not None:
            # What is dropped does not say which format the copy has.
            self._parser.format = settled
            self.note(needless, row.line)
            return None
        self.examples += 1
        if mended != text:
            self.note(Mend.CONTROL_CHARACTERS, row.line)
        for problem in content_problems(row, wording(example)):
            self.leave(problem.rule)
        if isinstance(example, Pair) and example.undecided:
            self.leave(Rule.SAME_ANSWERS)
        return mended

    def report(self) -> RepairReport:
        """Return what was done."""
        return RepairReport(
            mended={mend.value: count for mend, count in sorted(self._mended.items())},
            unmended={rule.value: count for rule, count in sorted(self._unmended.items())},
            changes=tuple(sorted(self._changes, key=lambda change: change.line)),
        )

    def report_nothing_done(self) -> RepairReport:
        """Return the report for a file that stays as it is: what was found is left."""
        rules = Counter({Rule(m.value): n for m, n in self._mended.items() if m in _RULES})
        left = self._unmended + rules
        return RepairReport(
            mended={},
            unmended={rule.value: count for rule, count in sorted(left.items())},
            changes=(),
        )

    def _parsed(self, row: Row | Problem) -> AnyExample | None:
        """Return the example in `row`, or count what is wrong with it."""
        found = (row,) if isinstance(row, Problem) else self._parser.parse(row)
        if not isinstance(found, tuple):
            return found
        for problem in found:
            self.leave(problem.rule)
        return None

    def _without_controls(
        self, row: Row, text: str, *, example: AnyExample
    ) -> tuple[Row, str, AnyExample]:
        """Return the row, its text and example without control characters, where that is safe."""
        rules = {problem.rule for problem in content_problems(row, wording(example))}
        # Of text that was decoded wrongly they may be a part, without which it is lost.
        if Rule.CONTROL_CHARACTERS not in rules or Rule.BROKEN_CHARACTERS in rules:
            return row, text, example
        mended = _TEXT.sub(_stripped, text)
        found = line_row(self._decoder, mended.strip(BLANK).encode(), number=row.line)
        parsed = found if isinstance(found, Problem) else self._parser.parse(found)
        if isinstance(found, Problem) or isinstance(parsed, Problem | tuple):
            return row, text, example
        return found, mended, parsed

    def _needless(self, example: AnyExample) -> Mend | None:
        """Return why `example` is dropped; remember it where it is kept."""
        if not example.answered:
            return Mend.EMPTY_ANSWER
        # Unlike its wording this tells weights as well, and where a message ends.
        whole = repr(replace(example, line=0, element=0)).encode(errors="backslashreplace")
        digest = blake2b(whole, digest_size=16).digest()
        if digest in self._kept:
            return Mend.DUPLICATE
        self._kept.add(digest)
        return None


_RULES = frozenset(mend for mend in Mend if mend.value in set(Rule))


def _stripped(text: re.Match[str]) -> str:
    if text[2]:
        return text[0]
    return _CONTROL.sub(lambda match: match[1] or "", text[1])
