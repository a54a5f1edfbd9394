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
from tunesmith.dataset.findings import KEPT, Findings
from tunesmith.dataset.formats import Format
from tunesmith.dataset.inspection import Inspector, Part
from tunesmith.dataset.pool import inspect_aside
from tunesmith.dataset.rows import read_rows
from tunesmith.domain.hyperparameters import optimizer_steps, resolve_hyperparameters
from tunesmith.domain.spec import JobRequest, Method
from tunesmith.domain.validation import StepEstimate, ValidationOptions, ValidationReport

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
    sources: Sources, options: ValidationOptions, *, workers: int = 1, kept: int = KEPT
) -> ValidationReport:
    """Read the sources once and report on the file.

    `workers` processes inspect a file that is long enough to gain by it; of each
    rule, the first `kept` places are listed. Nothing is raised for bad content.
    """
    whole = _inspect(sources.file, options, workers=workers, kept=kept)
    findings = whole.findings
    whole.fingerprints.find_duplicates(findings)
    if sources.held_out is not None:
        plain = ValidationOptions()
        held_out = _inspect(sources.held_out, plain, workers=workers, kept=0)
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
        tokens=None,
        estimate=_estimate(whole, options),
    )


def _inspect(file: BinaryIO, options: ValidationOptions, *, workers: int, kept: int) -> Part:
    inspector = Inspector(options, kept=kept)
    buffered = BufferedReader(cast("RawIOBase", file), 2**20)
    if not is_json_lines(buffered.peek(_HEAD)):
        return inspector.inspect(read_rows(buffered), settled=None)
    whole = Part(Findings(kept))
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


def _estimate(whole: Part, options: ValidationOptions) -> StepEstimate | None:
    """Return the run that a job would make of the file, by the rules of jobs."""
    if not whole.examples:
        return None
    request = JobRequest(
        method=options.method or Method.SUPERVISED,
        n_epochs=options.n_epochs,
        batch_size=options.batch_size,
    )
    resolved = resolve_hyperparameters(request, examples=whole.examples)
    return StepEstimate(
        n_epochs=resolved.n_epochs,
        batch_size=resolved.batch_size,
        steps=optimizer_steps(resolved, max_steps=None),
        trained_tokens=None,
    )
