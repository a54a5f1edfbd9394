"""Gathers what is found in a file: every problem is counted, the first few of a rule are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tunesmith.dataset.problems import Problem, Rule, Severity
from tunesmith.domain.validation import Finding

KEPT = 20
"""Problems of one rule that are kept with their place, unless said otherwise."""
_RANKS = {rule: rank for rank, rule in enumerate(Rule)}
"""In which order the problems of one example are listed: as the rules are declared."""


class Findings:
    """What was found so far; memory is bounded by the number of rules times `kept`."""

    def __init__(
        self, kept: int = KEPT, *, severities: Mapping[Rule, Severity] | None = None
    ) -> None:
        """Keep the first `kept` problems of each rule; `severities` go before the rules' own."""
        self.counts: Counter[Rule] = Counter()
        """How often each rule was broken."""
        self.kept = kept
        """Problems of one rule that are kept with their place."""
        self._severities = severities or {}
        self._first: dict[Rule, list[Problem]] = {}

    def add(self, problem: Problem) -> None:
        """Count `problem`, which stands behind all that were added before."""
        self.counts[problem.rule] += 1
        first = self._first.setdefault(problem.rule, [])
        if len(first) < self.kept:
            first.append(problem)

    def count(self, rule: Rule, number: int) -> None:
        """Count `number` more problems of `rule`, of which no place is kept."""
        if number:
            self.counts[rule] += number

    def join(self, later: Findings) -> None:
        """Add all that `later` holds, which stands behind all that this holds."""
        for rule, problems in later._first.items():
            first = self._first.setdefault(rule, [])
            first.extend(problems[: self.kept - len(first)])
        self.counts += later.counts

    def severity(self, rule: Rule) -> Severity:
        """Return how grave it is here to break `rule`."""
        return self._severities.get(rule, rule.severity)

    @property
    def truncated(self) -> bool:
        """Whether more was found than is kept."""
        return self.counts.total() > sum(len(first) for first in self._first.values())

    @property
    def errors(self) -> int:
        """Number of problems that forbid to train on the file."""
        found = self.counts.items()
        return sum(count for rule, count in found if self.severity(rule) is Severity.ERROR)

    def problems(self) -> tuple[Problem, ...]:
        """Return the kept problems in the file's order; those of the whole file come first."""
        kept = [problem for first in self._first.values() for problem in first]
        # Which rule was broken first depends on how the file was cut, and must not show.
        return tuple(sorted(kept, key=lambda each: (each.line, each.element, _RANKS[each.rule])))

    def listed(self) -> tuple[Finding, ...]:
        """Return the kept problems as the report has them."""
        return tuple(self._finding(problem) for problem in self.problems())

    def _finding(self, problem: Problem) -> Finding:
        return Finding(
            line=problem.line,
            element=problem.element,
            pointer=problem.pointer,
            rule=problem.rule.value,
            message=problem.message,
            severity=self.severity(problem.rule).value,
        )
