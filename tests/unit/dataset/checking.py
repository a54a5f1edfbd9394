"""What the check of a file says of its rows, without what is merely dubious."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from tunesmith.dataset.problems import Rule, Severity
from tunesmith.dataset.reading import RowPolicy
from tunesmith.dataset.validation import Sources, validate
from tunesmith.domain.spec import Method, Policy
from tunesmith.domain.validation import Finding, ValidationOptions, ValidationReport


@dataclass(frozen=True)
class Checked:
    """The errors of a report."""

    report: ValidationReport

    @property
    def ok(self) -> bool:
        return self.report.ok

    @property
    def format(self) -> str | None:
        return self.report.format

    @property
    def examples(self) -> int:
        return self.report.examples

    @property
    def bad_rows(self) -> int:
        return self.report.bad_rows

    @property
    def unanswered(self) -> int:
        return self.report.counts.get("empty_answer", 0)

    @property
    def problems(self) -> list[Finding]:
        return [finding for finding in self.report.findings if finding.severity == "error"]

    @property
    def counts(self) -> dict[str, int]:
        found = self.report.counts.items()
        return {rule: n for rule, n in found if Rule(rule).severity is Severity.ERROR}

    @property
    def refusal(self) -> str:
        return self.report.refusal

    @property
    def problem_count(self) -> int:
        return self.report.error_count


def check(
    file: BinaryIO,
    *,
    method: Method | None,
    minimum: int = 10,
    bad_rows: RowPolicy = Policy.REFUSE,
    bad_rows_share: float = 0.1,
) -> Checked:
    options = ValidationOptions(
        method=method, minimum=minimum, bad_rows=bad_rows, bad_rows_share=bad_rows_share
    )
    return Checked(validate(Sources(file), options))
