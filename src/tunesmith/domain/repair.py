"""What a repair of a training file changed, and what it left."""

from __future__ import annotations

from pathlib import PurePath

from tunesmith.domain.values import Value

_MAX_NAME_BYTES = 255


class Change(Value):
    """One place that was mended."""

    line: int
    """Line of the original on which the row begins, from 1."""
    rule: str
    """Stable id of the mend; see `docs/how-to/repair-a-file.md`."""
    what: str
    """What was done there."""


class RepairReport(Value):
    """How a repaired copy differs from its original."""

    mended: dict[str, int]
    """How often each mend was made, by its id; empty where the copy would be the original."""
    unmended: dict[str, int]
    """How often each rule is broken still, as far as a row shows it by itself."""
    changes: tuple[Change, ...]
    """The first places of each mend, in the file's order."""


def repaired_name(filename: str, *, ending: str = ".jsonl") -> str:
    """Return the name of the repaired copy of `filename`: `<stem>-repaired.jsonl`.

    The stem is cut where the name would be longer than the 255 bytes that file systems take.
    """
    tail = f"-repaired{ending}"
    stem = PurePath(filename).stem.encode()[: _MAX_NAME_BYTES - len(tail)]
    return stem.decode(errors="ignore") + tail
