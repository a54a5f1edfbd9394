"""Checks a whole training file before a job starts, and reads the examples of a checked one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

from tunesmith.dataset.containers import read_rows
from tunesmith.dataset.examples import AnyExample
from tunesmith.dataset.findings import Findings
from tunesmith.dataset.formats import Format, Parser
from tunesmith.dataset.problems import Problem, Rule
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.spec import Method, Policy
from tunesmith.domain.values import Value

MINIMUM_EXAMPLES = 10
"""Fewest examples of a training file, as OpenAI has it."""

_SUMMARIZED = 3

RowPolicy = Literal[Policy.REFUSE, Policy.SET_ASIDE]
"""What becomes of rows that break a rule."""


class Report(Value):
    """What a check found."""

    ok: bool
    """Whether the file can be used."""
    format: Format | None
    """The file's format; `None` where no row was valid."""
    examples: int
    """Number of examples that can be learnt from."""
    unanswered: int
    """Number of examples whose answer is empty, which will be set aside."""
    bad_rows: int
    """Number of rows that break a rule."""
    problems: tuple[Problem, ...]
    """The first 20 problems of each rule, in the file's order; those of the whole file first."""
    counts: dict[Rule, int]
    """Number of all problems that were met, for each rule that was broken."""

    @property
    def problem_count(self) -> int:
        """Number of all problems that were met."""
        return sum(self.counts.values())

    def summary(self) -> str:
        """Return one readable text: how many problems there are, and the first three."""
        if self.ok:
            aside = f" {self.unanswered} more have an empty answer." if self.unanswered else ""
            bad = f"with {self.bad_rows} more rows set aside" if self.bad_rows else ""
            found = f"{self.examples} examples in {self.format} format"
            return f"{found}, {bad or 'without a problem'}.{aside}"
        whole = [problem for problem in self.problems if not problem.line]
        texts = [item.message for item in (whole or self.problems)[:_SUMMARIZED]]
        if self.problem_count > 1:
            texts.insert(0, f"{self.problem_count} problems were found.")
        if self.problem_count > _SUMMARIZED:
            texts.append(f"(And {self.problem_count - _SUMMARIZED} more.)")
        return " ".join(texts)


@dataclass(frozen=True, slots=True)
class SetAsideRow:
    """A row that breaks a rule and is left out."""

    line: int
    """Line of the file on which it begins, from 1."""
    element: int
    """Its number in the array, from 1; 0 where the file is no array."""
    rule: Rule
    """The first rule that it breaks."""
    message: str
    """The place, what is wrong there, and the mend; where more is wrong, how much."""


def check(
    file: BinaryIO,
    *,
    method: Method | None,
    minimum: int = MINIMUM_EXAMPLES,
    bad_rows: RowPolicy = Policy.REFUSE,
    bad_rows_share: float = 0.0,
) -> Report:
    """Read `file` once, as a stream, and report whether it holds `minimum` good examples.

    All that is wrong is counted. Formats that `method` does not take are refused
    (`None`: takes all). With `set_aside`, bad rows are no reason to refuse the file
    while they are no more than `bad_rows_share` of all rows.
    """
    tally = _Tally()
    found = tally.findings
    parser = Parser(method)
    for item in parsed_rows(file, parser):
        tally.add(item)
    ok = not found.counts
    if bad_rows is Policy.SET_ASIDE and not tally.broken:
        tally.refuse_share(bad_rows_share)
        ok = Rule.TOO_MANY_BAD_ROWS not in found.counts
    if ok and tally.examples < max(minimum, 1):
        examples, unanswered = tally.examples, tally.unanswered
        least = max(minimum, 1)
        found.add(too_few(examples, unanswered, minimum=least, bad_rows=tally.bad_rows))
        ok = False
    return Report(
        ok=ok,
        format=parser.format,
        examples=tally.examples,
        unanswered=tally.unanswered,
        bad_rows=tally.bad_rows,
        problems=found.problems(),
        counts=dict(found.counts),
    )


def read_examples(
    file: BinaryIO,
    *,
    method: Method | None,
    limit: int | None,
    bad_rows: RowPolicy = Policy.REFUSE,
) -> Iterator[AnyExample | SetAsideRow]:
    """Yield the first `limit` examples (`None`: all) of a file that was checked, as a stream.

    With `set_aside`, a `SetAsideRow` is yielded for each bad row among them, and
    not counted. Otherwise, and where the file cannot be read on, a bad row raises
    `InvalidRequestError`; it cannot be met in a file that was checked alike.
    """
    left = limit
    if left == 0:
        return
    for item in parsed_rows(file, Parser(method)):
        if isinstance(item, tuple):
            if bad_rows is Policy.REFUSE or any(problem.last for problem in item):
                raise InvalidRequestError(item[0].message, code=item[0].rule)
            yield _set_aside(item)
            continue
        yield item
        if left is not None:
            left -= 1
            if not left:
                return


def parsed_rows(file: BinaryIO, parser: Parser) -> Iterator[AnyExample | tuple[Problem, ...]]:
    """Yield for each row of `file` the example, or all that is wrong with it, in order.

    The stream ends behind a format of another method, since all that follows would
    be told the same.
    """
    for row in read_rows(file):
        item = (row,) if isinstance(row, Problem) else parser.parse(row)
        yield item
        if isinstance(item, tuple) and item[-1].last:
            return


class _Tally:
    """Counts what a file holds."""

    def __init__(self) -> None:
        self.examples = self.unanswered = self.bad_rows = 0
        self.findings = Findings()
        self.broken = False
        """Whether the file could not be read to its end."""

    def add(self, item: AnyExample | tuple[Problem, ...]) -> None:
        if not isinstance(item, tuple):
            self.examples += item.answered
            self.unanswered += not item.answered
            return
        self.bad_rows += 1
        for problem in item:
            self.broken = self.broken or problem.last
            self.findings.add(problem)

    def refuse_share(self, most: float) -> None:
        """Note it if more than `most` of the rows are bad."""
        rows = self.examples + self.unanswered + self.bad_rows
        if self.bad_rows > most * rows:
            message = (
                f"{self.bad_rows} of {rows} rows break a rule, which is more than the share of "
                f"{most:g} that may be set aside. Mend them, or allow a larger share."
            )
            rule = Rule.TOO_MANY_BAD_ROWS
            self.findings.add(Problem(line=0, pointer="", rule=rule, message=message))


def too_few(examples: int, unanswered: int, *, minimum: int, bad_rows: int = 0) -> Problem:
    """Return the problem of a file with so few `examples`, besides those `unanswered` or bad."""
    some = examples or unanswered or bad_rows
    rule = Rule.TOO_FEW_EXAMPLES if some else Rule.NO_EXAMPLES
    if unanswered:
        message = (
            f"The file holds {examples} examples with an answer, but at least {minimum} are "
            f"needed. The answer of {unanswered} more is empty: fill it in."
        )
    elif some:
        message = f"The file holds {examples} examples, but at least {minimum} are needed."
    else:
        message = "The file is empty: it holds no example. Add one JSON object per line."
    return Problem(line=0, pointer="", rule=rule, message=message)


def _set_aside(problems: tuple[Problem, ...]) -> SetAsideRow:
    first = problems[0]
    more = f" (And {len(problems) - 1} more.)" if len(problems) > 1 else ""
    return SetAsideRow(first.line, first.element, first.rule, first.message + more)
