"""Uploaded and produced files."""

from __future__ import annotations

from enum import StrEnum

from tunesmith.domain.projects import DEFAULT_PROJECT
from tunesmith.domain.values import Value


class Purpose(StrEnum):
    """What a file is for. The last group is written by the service, never uploaded."""

    ASSISTANTS = "assistants"
    BATCH = "batch"
    FINE_TUNE = "fine-tune"
    VISION = "vision"
    USER_DATA = "user_data"
    EVALS = "evals"
    FINE_TUNE_RESULTS = "fine-tune-results"


UPLOADABLE = tuple(p for p in Purpose if p is not Purpose.FINE_TUNE_RESULTS)
"""The purposes that an upload may name."""


class File(Value):
    """A file and where its bytes are."""

    id: str
    """`file-…`."""
    filename: str
    """The name the uploader gave, without any folder."""
    purpose: Purpose
    """What the file is for."""
    bytes: int
    """Size in bytes."""
    sha256: str
    """SHA-256 of the content, in hex."""
    created_at: int
    """Unix seconds."""
    key: str
    """Where `artifacts` holds the content."""
    project: str = DEFAULT_PROJECT
    """The project that it belongs to; the store writes it."""
