"""Uploaded and produced files."""

from __future__ import annotations

from enum import StrEnum

from tunesmith.domain.projects import DEFAULT_PROJECT
from tunesmith.domain.values import Value


class Purpose(StrEnum):
    """What a file is for, in OpenAI's words.

    The last three are never uploaded: the service writes `fine-tune-results`, and has no file of
    the others.
    """

    ASSISTANTS = "assistants"
    BATCH = "batch"
    FINE_TUNE = "fine-tune"
    VISION = "vision"
    USER_DATA = "user_data"
    EVALS = "evals"
    ASSISTANTS_OUTPUT = "assistants_output"
    BATCH_OUTPUT = "batch_output"
    FINE_TUNE_RESULTS = "fine-tune-results"


_OUTPUTS = (Purpose.ASSISTANTS_OUTPUT, Purpose.BATCH_OUTPUT, Purpose.FINE_TUNE_RESULTS)

UPLOADABLE = tuple(purpose for purpose in Purpose if purpose not in _OUTPUTS)
"""The purposes that an upload may name."""


MIN_FILE_LIFE = 3600
"""The shortest life that an upload may give its file, in seconds: an hour."""

MAX_FILE_LIFE = 30 * 24 * 3600
"""The longest one, in seconds: 30 days."""


def content_key(sha256: str) -> str:
    """Return where `artifacts` holds content of that hash, in hex: the same content lies once."""
    return f"files/sha256/{sha256[:2]}/{sha256}"


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
    """Where `artifacts` holds the content; files with the same content share it."""
    expires_at: int | None = None
    """Unix seconds, from which on it is gone; `None` keeps it.

    One that an unfinished job needs stays until the job has ended.
    """
    project: str = DEFAULT_PROJECT
    """The project that it belongs to; the store writes it."""
