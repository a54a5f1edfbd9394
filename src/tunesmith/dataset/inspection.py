"""Inspects rows one by one: their structure, their content and, with a tokenizer, their length."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BytesIO
from itertools import groupby

from tunesmith.dataset.blocks import Block
from tunesmith.dataset.content import content_problems
from tunesmith.dataset.examples import AnyExample, Pair, Text
from tunesmith.dataset.findings import Findings
from tunesmith.dataset.fingerprints import Fingerprints
from tunesmith.dataset.formats import Format, Parser
from tunesmith.dataset.measuring import Measurer, Tally
from tunesmith.dataset.plain_chat import PlainRows, plain_rows
from tunesmith.dataset.problems import Problem, Rule
from tunesmith.dataset.rows import Row, read_lines
from tunesmith.dataset.wording import wording
from tunesmith.domain.spec import Method
from tunesmith.domain.validation import ValidationOptions

_UNANSWERED = "the {} is empty, so that the example is left out. Fill it in, or remove it."
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
        if settled is Format.CHAT and self._options.method in (None, Method.SUPERVISED):
            plain = plain_rows(block.data)
            if plain is not None:
                return self._inspect_plain(block, plain)
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
        self._measure((), part)
        part.format = parser.format
        return part

    def _inspect_plain(self, block: Block, rows: PlainRows) -> Part:
        """Return what is found in the `rows` of `block`, of which those in doubt are read."""
        part = Part(Findings(self._kept), format=Format.CHAT)
        wordings = rows.wordings
        examples = rows.examples(block.line) if self._measurer is not None else []
        lines = block.data.split(b"\n") if None in wordings else []
        line = block.line
        for doubtful, run in groupby(wordings, key=lambda words: words is None):
            if doubtful:
                first = line - block.line
                among = lines[first : first + sum(1 for _ in run)]
                careful = read_lines(BytesIO(b"\n".join(among)), number=line)
                part.join(self.inspect(careful, settled=Format.CHAT))
                line += len(among)
                continue
            plain = [words for words in run if words is not None]
            part.fingerprints.add_lines(plain, line)
            part.examples += len(plain)
            self._measure(examples[line - block.line :][: len(plain)], part)
            line += len(plain)
        return part

    def _measure(self, examples: Iterable[AnyExample], part: Part) -> None:
        """Count the tokens of `examples`, and of those that wait to be counted with others."""
        if self._measurer is None:
            return
        for example in examples:
            for problem in self._measurer.add(example, part.tally):
                part.findings.add(problem)
        for problem in self._measurer.flush(part.tally):
            part.findings.add(problem)

    def _example(self, part: Part, row: Row, *, example: AnyExample) -> None:
        words = wording(example)
        part.fingerprints.add(words.encode(), example.line, element=example.element)
        for problem in content_problems(row, words):
            part.findings.add(problem)
        if not example.answered:
            part.unanswered += 1
            fault = _UNANSWERED.format("text" if isinstance(example, Text) else "answer")
            part.findings.add(_of_answers(example, Rule.EMPTY_ANSWER, fault=fault))
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
