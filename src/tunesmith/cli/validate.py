"""`tunesmith validate`: the report of a training file, with no server."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

import typer

from tunesmith.cli.folder import open_folder
from tunesmith.cli.repair import shown_repair, write_repaired
from tunesmith.cli.tokenizers import TokenizerFolders
from tunesmith.domain.errors import TunesmithError
from tunesmith.domain.hyperparameters import MAX_LENGTH
from tunesmith.domain.spec import Method, Policy
from tunesmith.domain.validation import TokenReport, ValidationOptions, ValidationReport
from tunesmith.settings import load_settings

_USAGE = 2
"""Exit code where the report could not be made."""

ReadableFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)]
"""A file that is there."""


def validate_file(
    file: ReadableFile,
    *,
    model: Annotated[
        str | None, typer.Option(help="Base model of the catalogue whose tokens are counted.")
    ] = None,
    method: Annotated[Method | None, typer.Option(help="Method that the file is for.")] = None,
    validation_file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, readable=True, help="File to compare with."),
    ] = None,
    max_length: Annotated[
        int, typer.Option(min=8, help="Tokens of the longest example.")
    ] = MAX_LENGTH,
    over_length: Annotated[
        Policy, typer.Option(help="What a job would do with longer examples.")
    ] = Policy.CUT,
    bad_rows: Annotated[
        Literal["refuse", "set_aside"],
        typer.Option(help="What a job would do with rows that break a rule."),
    ] = "refuse",
    bad_rows_share: Annotated[
        float, typer.Option(min=0.001, max=0.999, help="Share of the rows that may be set aside.")
    ] = 0.1,
    n_epochs: Annotated[
        int | None, typer.Option(min=1, max=50, help="How often each is seen.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, max=256, help="Examples behind one step.")
    ] = None,
    repair: Annotated[
        Path | None,
        typer.Option(exists=False, dir_okay=False, help="Where a repaired copy is written to."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Report all that is wrong or dubious in a training file; no service is needed.

    The exit code is 0 where a job would take the file, 1 where it would not, and
    2 where no report could be made.
    """
    options = ValidationOptions.model_validate(
        {
            "model": model,
            "method": method,
            "max_length": max_length,
            "over_length": over_length,
            "bad_rows": bad_rows,
            "bad_rows_share": bad_rows_share,
            "n_epochs": n_epochs,
            "batch_size": batch_size,
        }
    )
    try:
        report = _report(file, validation_file, options=options)
        repaired = write_repaired(file, repair) if repair else None
    except TunesmithError as error:
        typer.echo(f"tunesmith: {error.message}", err=True)
        raise typer.Exit(_USAGE) from None
    typer.echo(report.model_dump_json(indent=2) if json else shown(report))
    if repaired and repair:
        # Beside a report in JSON, which is for programs, the copy is told to the person.
        typer.echo(shown_repair(repaired, repair), err=json)
    raise typer.Exit(0 if report.ok else 1)


def _report(file: Path, held_out: Path | None, *, options: ValidationOptions) -> ValidationReport:
    # Other commands need not wait for the import of what reads Parquet and counts tokens.
    from tunesmith.dataset.pool import Workers
    from tunesmith.dataset.tokenizer import FolderTokenizer
    from tunesmith.dataset.validation import Sources, validate

    folder = _tokenizer_folder(options.model) if options.model else None
    with ExitStack() as opened:
        sources = Sources(
            opened.enter_context(file.open("rb")),
            opened.enter_context(held_out.open("rb")) if held_out else None,
        )
        return validate(
            sources,
            options,
            tokenizer=FolderTokenizer(folder) if folder else None,
            workers=Workers(os.cpu_count() or 1, fork=True),
        )


def _tokenizer_folder(model: str) -> Path:
    settings = load_settings({})
    entry = settings.catalogue.get(model)
    if entry is None:
        raise typer.BadParameter(
            f"The model '{model}' is not in the catalogue; there are "
            f"{', '.join(sorted(settings.catalogue))}.",
            param_hint="--model",
        )
    open_folder(settings.data)
    return TokenizerFolders(settings.location).folder(entry)


def shown(report: ValidationReport) -> str:
    """Return `report` as lines for a person to read."""
    lines = [
        f"{finding.severity:5}  {finding.rule}  {finding.message}" for finding in report.findings
    ]
    if report.truncated:
        lines.append("…      of each rule, the first places alone are listed")
    if report.counts:
        width = max(map(len, report.counts))
        lines += ["", *(f"{rule:{width}}  {n:,}" for rule, n in report.counts.items())]
    lines += ["", f"{report.examples:,} examples, format {report.format or 'unknown'}"]
    if report.ok and report.bad_rows:
        lines.append(f"{report.bad_rows:,} rows that break a rule would be set aside.")
    if report.tokens is not None:
        lines += _shown_tokens(report.tokens)
    if report.estimate is not None:
        run = report.estimate
        lines.append(
            f"A job would take {run.steps:,} steps: {run.n_epochs} epochs, batches of "
            f"{run.batch_size}."
        )
    lines.append("A job would take it." if report.ok else "A job would refuse it.")
    return "\n".join(lines).lstrip("\n")


def _shown_tokens(tokens: TokenReport) -> list[str]:
    bars = [f"  up to {bar.upto:>7,}  {bar.examples:>9,}" for bar in tokens.histogram]
    ranks = "  ".join(f"{name} {value:,}" for name, value in tokens.percentiles.items())
    return [
        f"{tokens.total:,} tokens by {tokens.model}, {tokens.learnt:,} of them learnt; "
        f"{tokens.cut:,} examples cut to {tokens.max_length:,}, {tokens.set_aside:,} set aside",
        f"Tokens of an example: mean {tokens.mean:,}  {ranks}",
        *bars,
    ]
