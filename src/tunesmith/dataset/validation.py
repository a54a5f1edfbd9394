"""Reports all that is wrong or dubious in a training file, reading it once, as a stream.

JSON Lines are cut into blocks that several processes inspect at once; their
parts are joined in the file's order, so that the report is the same whatever
their number. Files of other containers are inspected by one process.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from io import BufferedReader, RawIOBase
from itertools import chain
from typing import BinaryIO, cast

from tunesmith.dataset.blocks import FIRST_BLOCK, Block, blocks, is_json_lines
from tunesmith.dataset.containers import read_rows
from tunesmith.dataset.findings import KEPT, Findings
from tunesmith.dataset.formats import Format
from tunesmith.dataset.inspection import Inspector, Part
from tunesmith.dataset.measuring import Measurer
from tunesmith.dataset.pool import Workers, inspect_together
from tunesmith.dataset.problems import Problem, Rule, Severity
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.domain.hyperparameters import optimizer_steps, resolve_hyperparameters
from tunesmith.domain.spec import JobRequest, Method, Policy
from tunesmith.domain.validation import (
    StepEstimate,
    TokenReport,
    ValidationOptions,
    ValidationReport,
)

_ALONE = Workers()
_HEAD = 2**12
"""Bytes from which the container is told."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What is read for a report."""

    file: BinaryIO
    """The file that is checked."""
    held_out: BinaryIO | None = None
    """The validation file that it goes with; it is read to compare alone."""


def validate(
    sources: Sources,
    options: ValidationOptions,
    *,
    tokenizer: FolderTokenizer | None = None,
    workers: Workers = _ALONE,
    kept: int = KEPT,
) -> ValidationReport:
    """Read the sources once and report on the file.

    Tokens are counted by `tokenizer`, the one of `options.model`, where it is
    given. `workers` inspect a file that is long enough to gain by it; of each
    rule, the first `kept` places are listed. Nothing is raised for bad content.
    """
    measurer = Measurer(tokenizer, options) if tokenizer is not None else None
    inspector = Inspector(options, kept=kept, measurer=measurer)
    whole = _inspect(sources.file, inspector, findings=_findings(options, kept), workers=workers)
    findings = whole.findings
    whole.fingerprints.find_duplicates(findings)
    if sources.held_out is not None:
        plain = Inspector(ValidationOptions(), kept=0)
        # By now this process has threads of libraries, which must not be copied.
        anew = replace(workers, fork=False)
        held_out = _inspect(sources.held_out, plain, findings=Findings(0), workers=anew)
        whole.fingerprints.find_overlap(held_out.fingerprints, findings)
    return ValidationReport(
        ok=_taken(whole, options),
        format=whole.format,
        examples=whole.examples,
        bad_rows=whole.bad_rows,
        findings=findings.listed(),
        counts={rule.value: count for rule, count in sorted(findings.counts.items())},
        error_count=findings.errors,
        truncated=findings.truncated,
        tokens=_tokens(whole, options, measurer=measurer),
        estimate=_estimate(whole, options, counted=measurer is not None),
    )


def _findings(options: ValidationOptions, kept: int) -> Findings:
    refused = options.over_length is Policy.REFUSE
    return Findings(kept, severities={Rule.OVER_LENGTH: Severity.ERROR} if refused else {})


def _inspect(file: BinaryIO, inspector: Inspector, *, findings: Findings, workers: Workers) -> Part:
    whole = Part(findings)
    buffered = BufferedReader(cast("RawIOBase", file), 2**20)
    try:
        with closing(_inspected(buffered, inspector, workers=workers)) as parts:
            for part in parts:
                whole.join(part)
                if part.ended:
                    break
    finally:
        # Else the file, which is the caller's, would be closed with it.
        buffered.detach()
    return whole


def _inspected(
    file: BufferedReader[RawIOBase], inspector: Inspector, *, workers: Workers
) -> Generator[Part]:
    """Yield the parts of `file` in order; only of JSON Lines there is more than one."""
    if is_json_lines(file.peek(_HEAD)):
        # Only copies of this process have its open files.
        descriptor = _descriptor(file) if workers.fork else None
        yield from _parts(blocks(file), inspector, workers=workers, descriptor=descriptor)
    else:
        yield inspector.inspect(read_rows(file), settled=None)


def _descriptor(file: BufferedReader[RawIOBase]) -> int | None:
    """Return the descriptor of `file` where others can read it at any place."""
    try:
        return file.fileno() if file.seekable() else None
    except OSError:
        return None


def _parts(
    found: Iterator[Block], inspector: Inspector, *, workers: Workers, descriptor: int | None
) -> Generator[Part]:
    """Yield the part of each block, in order."""
    first = next(found, None)
    if first is None:
        return
    whole = chain((first,), found)
    if workers.count > 1 and len(first.data) >= FIRST_BLOCK:
        yield from inspect_together(whole, inspector, workers=workers, descriptor=descriptor)
        return
    settled: Format | None = None
    for block in whole:
        part = inspector.inspect_block(block, settled=settled)
        settled = part.format
        yield part


def _taken(whole: Part, options: ValidationOptions) -> bool:
    """Tell whether a job would take the file, and add to the findings what it lacks as a whole."""
    findings = whole.findings
    taken = not findings.errors
    if options.bad_rows is Policy.SET_ASIDE and not whole.ended:
        refused = findings.severity(Rule.OVER_LENGTH) is Severity.ERROR
        taken = not (refused and Rule.OVER_LENGTH in findings.counts)
        rows = whole.examples + whole.unanswered + whole.bad_rows
        if whole.bad_rows > options.bad_rows_share * rows:
            findings.add(_too_many_bad(whole.bad_rows, rows, most=options.bad_rows_share))
            taken = False
    if taken and whole.examples < options.minimum:
        findings.add(_too_few(whole, options.minimum))
        taken = False
    elif taken and whole.tally.set_aside and not whole.tally.units:
        message = "Nothing remains to learn: each example would be set aside. Mend what is told."
        findings.add(Problem(line=0, pointer="", rule=Rule.NOTHING_LEARNT, message=message))
        taken = False
    return taken


def _too_many_bad(bad: int, rows: int, *, most: float) -> Problem:
    message = (
        f"{bad} of {rows} rows break a rule, which is more than the share of {most:g} that may be "
        "set aside. Mend them, or allow a larger share."
    )
    return Problem(line=0, pointer="", rule=Rule.TOO_MANY_BAD_ROWS, message=message)


def _too_few(whole: Part, minimum: int) -> Problem:
    some = whole.examples or whole.unanswered or whole.bad_rows
    rule = Rule.TOO_FEW_EXAMPLES if some else Rule.NO_EXAMPLES
    if whole.unanswered:
        message = (
            f"The file holds {whole.examples} examples with an answer, but at least {minimum} are "
            f"needed. The answer of {whole.unanswered} more is empty: fill it in."
        )
    elif some:
        message = f"The file holds {whole.examples} examples, but at least {minimum} are needed."
    else:
        message = "The file is empty: it holds no example. Add one JSON object per line."
    return Problem(line=0, pointer="", rule=rule, message=message)


def _tokens(
    whole: Part, options: ValidationOptions, *, measurer: Measurer | None
) -> TokenReport | None:
    if measurer is None:
        return None
    return whole.tally.report(model=options.model or "", max_length=measurer.max_length)


def _estimate(whole: Part, options: ValidationOptions, *, counted: bool) -> StepEstimate | None:
    """Return the run that a job would make of the file, by the rules of jobs."""
    units = whole.tally.units if counted else whole.examples
    if not units:
        return None
    request = JobRequest(
        method=options.method or Method.SUPERVISED,
        n_epochs=options.n_epochs,
        batch_size=options.batch_size,
    )
    # A job closes "auto" by the examples of the file; batches are made of what remains of them.
    resolved = resolve_hyperparameters(request, examples=whole.examples)
    batched = resolved.model_copy(update={"examples": units})
    return StepEstimate(
        n_epochs=resolved.n_epochs,
        batch_size=resolved.batch_size,
        steps=optimizer_steps(batched, max_steps=None),
        # Of the passages of a query, each step draws some.
        trained_tokens=whole.tally.total * resolved.n_epochs
        if counted and whole.format is not Format.RERANK
        else None,
    )
