"""What a backup is made of, and what a database says that there must be."""

from __future__ import annotations

from typing import Literal

from tunesmith.domain.values import Value

FORMAT: Literal[1] = 1
"""The layout of a backup's folder that this version writes and reads."""


class Named(Value):
    """All that a database says to be among the artifacts."""

    keys: frozenset[str]
    """Keys that hold bytes: of files, of parts of pending uploads, of exports that succeeded."""
    prefixes: frozenset[str]
    """Prefixes with bytes below them: tuned models, and checkpoints of jobs that have ended."""
    ended: tuple[str, ...]
    """Ids of the jobs that have ended and hold no submission, so that no run of theirs writes."""
    open: tuple[str, ...]
    """Ids of all other jobs."""
    exports: tuple[str, ...]
    """Ids of all exports."""


class BackupEntry(Value):
    """A file of a backup."""

    bytes: int
    """Its size."""
    sha256: str
    """SHA-256 of its content, in hex."""
    written_at: float | None = None
    """When its source was written, in unix seconds; a later backup knows by it what is the same."""


class Manifest(Value):
    """What lies in a backup, so that `tunesmith restore` trusts nothing that has changed since."""

    format: Literal[1] = FORMAT
    """The layout of the folder."""
    version: str
    """The version of Tunesmith that made it."""
    created_at: int
    """Unix seconds at which the copy of the database was begun that it holds."""
    database: BackupEntry
    """`tunesmith.db`."""
    settings: BackupEntry | None
    """`settings.toml`, where the data folder had one."""
    artifacts: dict[str, BackupEntry]
    """The files below `artifacts/`, by their keys."""
    missing: tuple[str, ...] = ()
    """What the database names, but the data folder had lost before; it is lost here as well."""

    @property
    def size(self) -> int:
        """Return the bytes of all files."""
        settings = self.settings.bytes if self.settings else 0
        return self.database.bytes + settings + sum(each.bytes for each in self.artifacts.values())
