"""Reports all that is wrong or dubious in a training file, reading it once, as a stream.

JSON Lines are cut into blocks that several processes inspect at once; their
parts are joined in the file's order, so that the report is the same whatever
their number. Files of other containers are inspected by one process.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from io import BufferedReader, RawIOBase
from typing import BinaryIO, cast

from tunesmith.dataset.blocks import BLOCK, Block, blocks, is_json_lines
from tunesmith.dataset.check import too_few
from tunesmith.dataset.containers import read_rows
from tunesmith.dataset.findings import KEPT, Findings
from tunesmith.dataset.formats import Format
from tunesmith.dataset.inspection import Inspector, Part
from tunesmith.dataset.measuring import Measurer
from tunesmith.dataset.pool import inspect_aside
from tunesmith.dataset.problems import Rule, Severity
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.domain.hyperparameters import optimizer_steps, resolve_hyperparameters
from tunesmith.domain.spec import JobRequest, Method, Policy
from tunesmith.domain.validation import (
    StepEstimate,
    TokenReport,
    ValidationOptions,
    ValidationReport,
)

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
    workers: int = 1,
    kept: int = KEPT,
) -> ValidationReport:
    """Read the sources once and report on the file.

    Tokens are counted by `tokenizer`, the one of `options.model`, where it is
    given. `workers` processes inspect a file that is long enough to gain by it;
    of each rule, the first `kept` places are listed. Nothing is raised for bad
    content.
    """
    measurer = Measurer(tokenizer, options) if tokenizer is not None else None
    inspector = Inspector(options, kept=kept, measurer=measurer)
    whole = _inspect(sources.file, inspector, findings=_findings(options, kept), workers=workers)
    findings = whole.findings
    whole.fingerprints.find_duplicates(findings)
    if sources.held_out is not None:
        plain = Inspector(ValidationOptions(), kept=0)
        held_out = _inspect(sources.held_out, plain, findings=Findings(0), workers=workers)
        whole.fingerprints.find_overlap(held_out.fingerprints, findings)
    if not findings.errors:
        _check_number(whole, options.minimum)
    return ValidationReport(
        format=whole.format,
        examples=whole.examples,
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


def _inspect(file: BinaryIO, inspector: Inspector, *, findings: Findings, workers: int) -> Part:
    whole = Part(findings)
    buffered = BufferedReader(cast("RawIOBase", file), 2**20)
    if not is_json_lines(buffered.peek(_HEAD)):
        whole.join(inspector.inspect(read_rows(buffered), settled=None))
        return whole
    with closing(_parts(blocks(buffered), inspector, workers=workers)) as parts:
        for part in parts:
            whole.join(part)
            if part.ended:
                break
    return whole


def _parts(found: Iterator[Block], inspector: Inspector, *, workers: int) -> Generator[Part]:
    """Yield the part of each block, in order: the first from here, those behind from workers.

    The first blocks tell the format, which the workers need to know.
    """
    settled: Format | None = None
    for block in found:
        part = inspector.inspect_block(block, settled=settled)
        settled = part.format
        yield part
        if settled is not None and workers > 1 and len(block.data) >= BLOCK:
            yield from inspect_aside(found, inspector, settled=settled, workers=workers)


def _check_number(whole: Part, minimum: int) -> None:
    if whole.examples < minimum:
        whole.findings.add(too_few(whole.examples, whole.unanswered, minimum=minimum))


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
        trained_tokens=whole.tally.total * resolved.n_epochs if counted else None,
    )
