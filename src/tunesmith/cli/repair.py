"""The repaired copy that `tunesmith validate --repair` writes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import BinaryIO, cast

from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.repair import RepairReport


def write_repaired(file: Path, target: Path) -> RepairReport:
    """Write the repaired copy of `file` to `target`, whole or not at all.

    Where there is nothing to mend, nothing is written. Raises `InvalidRequestError`
    where `target` is there already, cannot be written, or `file` cannot be repaired.
    """
    # Other commands need not wait for the import of what reads Parquet.
    from tunesmith.dataset.repair import repair  # noqa: PLC0415

    try:
        with (
            file.open("rb") as original,
            tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.") as copy,
        ):
            report = repair(original, cast("BinaryIO", copy))
            if report.mended:
                copy.flush()
                os.fsync(copy.fileno())
                # Unlike a renaming, a link never replaces what is there.
                os.link(copy.name, target)
    except FileExistsError:
        raise InvalidRequestError(f"'{target}' is there already. Name a new file.") from None
    except OSError as error:
        raise InvalidRequestError(f"'{target}' cannot be written: {error.strerror}.") from None
    return report


def shown_repair(report: RepairReport, target: Path) -> str:
    """Return `report` as lines for a person to read."""
    if not report.mended:
        return "\nThere is nothing to mend; no copy was written."
    width = max(map(len, [*report.mended, *report.unmended]))
    lines = ["", f"Repaired copy: {target}"]
    lines += [f"{rule:{width}}  {count:,} mended" for rule, count in report.mended.items()]
    lines += [f"{rule:{width}}  {count:,} left" for rule, count in report.unmended.items()]
    lines += [f"  line {change.line}: {change.what}" for change in report.changes]
    return "\n".join(lines)
