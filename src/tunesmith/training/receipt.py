"""The sums of a run's receipt: what it learns from and what with, and what came of it.

They are written before training begins, and once more with the result. What
became of each line is told in `receipt_lines.py`.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import BinaryIO

from tunesmith.domain.spec import DataFile, Precision, RankingSpec
from tunesmith.domain.values import Value
from tunesmith.training.reading import FileReport

_LIBRARIES = ("tunesmith", "torch", "transformers", "tokenizers", "peft", "numpy")

_CHUNK = 2**20
"""Bytes of a file that are hashed at once."""


class FileReceipt(Value):
    """A data file and what became of it."""

    file: DataFile
    """The file, with the SHA-256 of its content."""
    report: FileReport
    """What became of its lines."""


class Receipt(Value):
    """What a result was made from."""

    job_id: str
    """The job."""
    base_model: str
    """Name of the base model in the catalogue."""
    base_revision: str | None
    """Commit of the base model, where it comes from the hub."""
    max_length: int
    """Tokens of the longest example as it was learnt from; what was beyond was cut."""
    ranking: RankingSpec | None
    """With queries and passages: the lengths, in place of `max_length`, and all else."""
    training: FileReceipt
    """What was learnt from, any held-out share included."""
    validation: FileReceipt | None
    """What the run was evaluated on, where that was a file of its own."""
    held_out_examples: int
    """Examples that the run was evaluated on."""
    chat_template_sha256: str | None
    """SHA-256 of the chat template that rendered the examples, in hex; `None` where none did."""
    tokenizer_sha256: str
    """SHA-256 of `tokenizer.json`, in hex."""
    precision: Precision
    """Number format of the frozen weights, and of the matrix products where all are trained."""
    threads: int
    """Threads that trained."""
    libraries: dict[str, str]
    """Version of each library that has a say in the result."""
    trained_tokens: int | None = None
    """Tokens that went through training, padding not counted, all epochs. As all that follows,
    `None` until training has ended."""
    steps: int | None = None
    """Optimizer steps."""
    result_step: int | None = None
    """Step whose checkpoint is the result: the last, or with early stopping the best."""
    final_train_loss: float | None = None
    """Loss of the last step's batch, in nats."""
    final_valid_loss: float | None = None
    """Loss on the held-out examples at the end, in nats; `None` where there are none."""


def libraries() -> dict[str, str]:
    """Return the version of each library that has a say in the result."""
    return {name: version(name) for name in _LIBRARIES}


def sha256_of_file(file: BinaryIO) -> str:
    """Return the SHA-256 of what is left to read of `file`, in hex; it is read as a stream."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def sha256(content: str) -> str:
    """Return the SHA-256 of `content` in UTF-8, in hex."""
    return hashlib.sha256(content.encode()).hexdigest()
