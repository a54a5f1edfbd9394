"""Inspects rows one by one: their structure, their content and, with a tokenizer, their length."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BytesIO
from itertools import groupby

from tunesmith.dataset.blocks import Block
from tunesmith.dataset.content import content_problems
from tunesmith.dataset.examples import AnyExample, Pair
from tunesmith.dataset.findings import Findings
from tunesmith.dataset.fingerprints import Fingerprints
from tunesmith.dataset.formats import Format, Parser
from tunesmith.dataset.measuring import Measurer, Tally
from tunesmith.dataset.plain_chat import plain_wordings
from tunesmith.dataset.problems import Problem, Rule
from tunesmith.dataset.rows import Row, read_lines
from tunesmith.dataset.wording import wording
from tunesmith.domain.spec import Method
from tunesmith.domain.validation import ValidationOptions

_UNANSWERED = "the answer is empty, so that the example is left out. Fill it in, or remove it."
_UNDECIDED = "both answers are the same, so that neither is preferred. Mend one, or remove it."


@dataclass(slots=True)
class Part:
    """What was found in some rows of a file."""

    findings: Findings
    """What is wrong or dubious in them."""
    fingerprints: Fingerprints = field(default_factory=Fingerprints)
    """What the examples say, to compare."""
    format: Format | None = None
    """The format of the rows, once there was a valid one."""
    examples: int = 0
    """Examples that can be learnt from."""
    unanswered: int = 0
    """Examples whose answer is empty."""
    bad_rows: int = 0
    """Rows that break a rule."""
    tally: Tally = field(default_factory=Tally)
    """Their tokens, where a tokenizer counts them."""
    ended: bool = False
    """Whether reading on is in vain."""

    def join(self, later: Part) -> None:
        """Add what was found in the rows that follow."""
        self.findings.join(later.findings)
        self.fingerprints.join(later.fingerprints)
        self.format = self.format or later.format
        self.examples += later.examples
        self.unanswered += later.unanswered
        self.bad_rows += later.bad_rows
        self.tally.join(later.tally)
        self.ended = later.ended


class Inspector:
    """Inspects the rows of one file, or of a part of it whose format is known."""

    def __init__(
        self, options: ValidationOptions, *, kept: int, measurer: Measurer | None = None
    ) -> None:
        """Inspect by `options`, and keep the first `kept` problems of each rule.

        Where there is a `measurer`, tokens are counted.
        """
        self._options = options
        self._kept = kept
        self._measurer = measurer

    def inspect_block(self, block: Block, *, settled: Format | None) -> Part:
        """Return what is found in the lines of `block`; see `inspect`."""
        # To count tokens, the examples themselves are needed.
        plain = settled is Format.CHAT and self._options.method in (None, Method.SUPERVISED)
        if plain and self._measurer is None:
            wordings = plain_wordings(block.data)
            if wordings is not None:
                return self._inspect_wordings(block, wordings)
        rows = read_lines(BytesIO(block.data), number=block.line)
        return self.inspect(rows, settled=settled)

    def inspect(self, rows: Iterable[Row | Problem], *, settled: Format | None) -> Part:
        """Return what is found in `rows`, whose format is `settled`, or else is told from them."""
        part = Part(Findings(self._kept))
        parser = Parser(self._options.method)
        parser.format = settled
        for row in rows:
            item = (row,) if isinstance(row, Problem) else parser.parse(row)
            if isinstance(item, tuple):
                part.bad_rows += 1
                for problem in item:
                    part.findings.add(problem)
                if item[-1].last:
                    part.ended = True
                    break
            elif isinstance(row, Row):
                self._example(part, row, example=item)
        if self._measurer is not None:
            for problem in self._measurer.flush(part.tally):
                part.findings.add(problem)
        part.format = parser.format
        return part

    def _inspect_wordings(self, block: Block, wordings: list[bytes | None]) -> Part:
        """Return what is found in the lines of `block`, of which those without wording are read."""
        part = Part(Findings(self._kept), format=Format.CHAT)
        lines = block.data.split(b"\n") if None in wordings else []
        line = block.line
        for doubtful, run in groupby(wordings, key=lambda words: words is None):
            if doubtful:
                first = line - block.line
                among = lines[first : first + sum(1 for _ in run)]
                rows = read_lines(BytesIO(b"\n".join(among)), number=line)
                part.join(self.inspect(rows, settled=Format.CHAT))
                line += len(among)
                continue
            plain = [words for words in run if words is not None]
            part.fingerprints.add_lines(plain, line)
            part.examples += len(plain)
            line += len(plain)
        return part

    def _example(self, part: Part, row: Row, *, example: AnyExample) -> None:
        words = wording(example)
        part.fingerprints.add(words.encode(), example.line, element=example.element)
        for problem in content_problems(row, words):
            part.findings.add(problem)
        if not example.answered:
            part.unanswered += 1
            part.findings.add(_of_answers(example, Rule.EMPTY_ANSWER, fault=_UNANSWERED))
            return
        part.examples += 1
        if isinstance(example, Pair) and example.undecided:
            part.findings.add(_of_answers(example, Rule.SAME_ANSWERS, fault=_UNDECIDED))
        if self._measurer is not None:
            for problem in self._measurer.add(example, part.tally):
                part.findings.add(problem)


def _of_answers(example: AnyExample, rule: Rule, *, fault: str) -> Problem:
    return Problem(
        line=example.line,
        element=example.element,
        pointer="",
        rule=rule,
        message=f"{example.place}: {fault}",
    )
