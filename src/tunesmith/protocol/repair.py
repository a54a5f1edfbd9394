"""The repair of a file: an extension of ours to OpenAI's files."""

from __future__ import annotations

from typing import Literal, Self

from tunesmith.domain.files import File
from tunesmith.domain.repair import RepairReport
from tunesmith.protocol.files import FileObject
from tunesmith.protocol.wire import Wire


class FileChange(Wire):
    """One place that was mended."""

    line: int
    """Line of the original on which the row begins, from 1."""
    rule: str
    """Stable id of the mend; where the check has a rule for it, the rule's."""
    what: str
    """What was done there."""


class FileRepair(Wire):
    """The repaired copy of a file, and what was done for it."""

    object: Literal["file.repair"] = "file.repair"
    """Tells the kinds of objects apart."""
    file: FileObject | None
    """The repaired copy; null where there is nothing to mend."""
    original: str
    """Id of the file that it is a copy of, which stays as it is."""
    mended: dict[str, int]
    """How often each mend was made, by its id."""
    unmended: dict[str, int]
    """How often each rule is broken still, as far as a row shows it by itself."""
    changes: list[FileChange]
    """The first twenty places of each mend, in the file's order."""

    @classmethod
    def to_wire(cls, report: RepairReport, *, original: str, copy: File | None) -> Self:
        """Return what was done, and the `copy` where there is one."""
        return cls(
            file=FileObject.to_wire(copy) if copy else None,
            original=original,
            mended=report.mended,
            unmended=report.unmended,
            changes=[FileChange.model_validate(change.model_dump()) for change in report.changes],
        )
