"""Checks a whole training file before a job starts, and reads the examples of a checked one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

from tunesmith.dataset.examples import Example
from tunesmith.dataset.formats import Format, Parser
from tunesmith.dataset.problems import Problem, Rule
from tunesmith.dataset.rows import read_rows
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.values import Value

MINIMUM_EXAMPLES = 10
"""Fewest examples of a training file, as OpenAI has it."""

_KEPT = 20
_SUMMARIZED = 3


class Report(Value):
    """What a check found."""

    format: Format | None
    """The file's format; `None` where no row was valid."""
    examples: int
    """Number of examples that can be learnt from."""
    unanswered: int
    """Number of examples whose answer is empty, which will be set aside."""
    problems: tuple[Problem, ...]
    """The first 20 problems, in the file's order."""
    problem_count: int
    """Number of all problems that were met."""

    @property
    def ok(self) -> bool:
        """Whether the file can be used."""
        return self.problem_count == 0

    def summary(self) -> str:
        """Return one readable text: how many problems there are, and the first three."""
        if self.ok:
            aside = f" {self.unanswered} more have an empty answer." if self.unanswered else ""
            return f"{self.examples} examples in {self.format} format, without a problem.{aside}"
        texts = [problem.message for problem in self.problems[:_SUMMARIZED]]
        if self.problem_count > 1:
            texts.insert(0, f"{self.problem_count} problems were found.")
        if self.problem_count > _SUMMARIZED:
            texts.append(f"(And {self.problem_count - _SUMMARIZED} more.)")
        return " ".join(texts)


def check(file: BinaryIO, *, minimum: int = MINIMUM_EXAMPLES) -> Report:
    """Read `file` once, as a stream, and report whether it holds `minimum` good examples."""
    parser = Parser()
    kept: list[Problem] = []
    examples = unanswered = problems = 0
    for item in _parsed(file, parser):
        if isinstance(item, Example):
            examples += item.answered
            unanswered += not item.answered
            continue
        problems += 1
        if problems <= _KEPT:
            kept.append(item)
    if not problems and examples < max(minimum, 1):
        kept.append(too_few(examples, unanswered, minimum=max(minimum, 1)))
        problems = 1
    return Report(
        format=parser.format,
        examples=examples,
        unanswered=unanswered,
        problems=tuple(kept),
        problem_count=problems,
    )


def read_examples(file: BinaryIO, *, limit: int | None) -> Iterator[Example]:
    """Yield the first `limit` examples (`None`: all) of a file that was checked, as a stream.

    Raises `InvalidRequestError` at a bad row, which cannot be met in a checked file.
    """
    for item in islice(_parsed(file, Parser()), limit):
        if isinstance(item, Problem):
            raise InvalidRequestError(item.message, code=item.rule)
        yield item


def _parsed(file: BinaryIO, parser: Parser) -> Iterator[Example | Problem]:
    for row in read_rows(file):
        item = row if isinstance(row, Problem) else parser.parse(row)
        yield item
        if isinstance(item, Problem) and item.rule is Rule.WRONG_METHOD:
            # All that follows would be told the same.
            return


def too_few(examples: int, unanswered: int, *, minimum: int) -> Problem:
    """Return the problem of a file with so few `examples`, besides those `unanswered`."""
    rule = Rule.TOO_FEW_EXAMPLES if examples or unanswered else Rule.NO_EXAMPLES
    if unanswered:
        message = (
            f"The file holds {examples} examples with an answer, but at least {minimum} are "
            f"needed. The answer of {unanswered} more is empty: fill it in."
        )
    elif examples:
        message = f"The file holds {examples} examples, but at least {minimum} are needed."
    else:
        message = "The file is empty: it holds no example. Add one JSON object per line."
    return Problem(line=0, pointer="", rule=rule, message=message)
