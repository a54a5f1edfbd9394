"""Reads the examples of a training file that was checked, and the rows that are set aside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

from tunesmith.dataset.containers import read_rows
from tunesmith.dataset.examples import AnyExample
from tunesmith.dataset.formats import Parser
from tunesmith.dataset.problems import Problem, Rule
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.spec import Method, Policy

RowPolicy = Literal[Policy.REFUSE, Policy.SET_ASIDE]
"""What becomes of rows that break a rule."""


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
    for item in _parsed_rows(file, Parser(method)):
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


def _parsed_rows(file: BinaryIO, parser: Parser) -> Iterator[AnyExample | tuple[Problem, ...]]:
    """Yield for each row of `file` the example, or all that is wrong with it, in order.

    The stream ends behind a format of another method, since all that follows would
    be told the same.
    """
    for row in read_rows(file):
        item = (row,) if isinstance(row, Problem) else parser.parse(row)
        yield item
        if isinstance(item, tuple) and item[-1].last:
            return


def _set_aside(problems: tuple[Problem, ...]) -> SetAsideRow:
    first = problems[0]
    more = f" (And {len(problems) - 1} more.)" if len(problems) > 1 else ""
    return SetAsideRow(first.line, first.element, first.rule, first.message + more)
