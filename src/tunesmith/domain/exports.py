"""Exports: a tuned model as files that other programs load, compared before they are handed out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from tunesmith.domain.projects import DEFAULT_PROJECT
from tunesmith.domain.values import Value


class ExportFormat(StrEnum):
    """What is made of a tuned model."""

    ADAPTER = "adapter"
    """The adapter as `peft` loads it beside the base model."""
    MERGED = "merged"
    """The whole model, the adapter added to its weights, as `transformers` loads it."""
    GGUF = "gguf"
    """The whole model in one file, as llama.cpp and Ollama load it."""


class Quantization(StrEnum):
    """The number format of an export's matrices."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"
    """Blocks of 32 weights in 8 bits each, with a scale; for GGUF alone."""


class ExportStatus(StrEnum):
    """Where an export stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing follows this status."""
        return self not in (ExportStatus.QUEUED, ExportStatus.RUNNING)


class ExportFailure(StrEnum):
    """Why an export failed; each code is explained in `docs/reference/errors.md`."""

    NOT_EQUAL = "export_not_equal"
    FORMAT_UNSUPPORTED = "export_format_unsupported"
    MODEL_UNAVAILABLE = "model_unavailable"
    DISK_FULL = "disk_full"
    PUSH_FAILED = "push_failed"
    WORKER_LOST = "worker_lost"
    INTERNAL_ERROR = "internal_error"


class ExportError(Value):
    """Why an export failed."""

    code: ExportFailure
    """A stable code."""
    message: str
    """What went wrong, where, and the mend."""
    param: str | None = None
    """The request's field at fault, where there is one."""


class PushFolder(Value):
    """A folder to which the files are copied."""

    kind: Literal["folder"] = "folder"
    """Tells the places apart."""
    path: Path
    """The folder's absolute path; it must not exist yet."""


class PushHub(Value):
    """A repository of the Hugging Face hub; the node's `HF_TOKEN` opens it."""

    kind: Literal["hub"] = "hub"
    """Tells the places apart."""
    repo: str
    """`owner/name`; it is made, private, where it is not there."""


Push = Annotated[PushFolder | PushHub, Field(discriminator="kind")]
"""Where the files go besides."""


class ExportFile(Value):
    """A file of an export."""

    name: str
    """Its path in the export, such as `model.safetensors`."""
    bytes: int
    """Its size."""
    sha256: str
    """SHA-256 of its content, in hex."""


class Comparison(Value):
    """How one way to ask the model compares with the model as it was trained."""

    side: str
    """`served`, `merged` or `gguf`."""
    read_by: str
    """The program that answered."""
    bound: float
    """The largest difference that is taken, in nats; of vectors, as a share of the largest number;
    of scores, before they are brought between 0 and 1."""
    largest_difference: float
    """The largest difference that was found."""
    mean_difference: float
    """The mean of all differences."""
    near_ties: int = 0
    """Places where another token came, since the best two were nearer than the bound."""


class Parity(Value):
    """What the comparison before an export's end found."""

    measure: Literal["log_probability", "output"]
    """What is compared: log-probabilities of an answer's tokens; or vectors and scores."""
    prompts: int
    """Prompts that were asked."""
    tokens: int
    """Tokens of the answers that were compared; 0 for vectors and scores."""
    sides: tuple[Comparison, ...]
    """Each way to ask the model."""


class Export(Value):
    """An export as the store keeps it."""

    id: str
    """`exp_…`."""
    created_at: int
    """Unix seconds."""
    status: ExportStatus = ExportStatus.QUEUED
    """Where it stands."""
    model: str
    """Name of the tuned model or checkpoint."""
    job_id: str
    """The job that made the model."""
    key: str
    """Prefix under which `artifacts` holds the model."""
    format: ExportFormat
    """What is made."""
    quantization: Quantization | None = None
    """The number format; `None` for that of the base model, and for adapters."""
    push_to: str | None = None
    """Where the files go besides, in the client's words."""
    push: Push | None = None
    """The same as the export finds it."""
    progress: float = 0.0
    """Share that is done, 0 to 1."""
    message: str | None = None
    """What it is at."""
    error: ExportError | None = None
    """Why it failed."""
    files: tuple[ExportFile, ...] = ()
    """What can be downloaded, once succeeded."""
    parity: Parity | None = None
    """What the comparison found."""
    attempt: int = 0
    """How many times it was launched."""
    submission_open: bool = False
    """Whether the latest attempt may still be alive on the cluster."""
    finished_at: int | None = None
    """Unix seconds at which it ended."""
    project: str = DEFAULT_PROJECT
    """The project that it belongs to; the store writes it."""

    @property
    def submission_id(self) -> str:
        """Name of the latest attempt on the cluster; launching is idempotent by it."""
        return f"{self.id}-{self.attempt}"


class ExportSpec(Value):
    """Everything that decides what an export makes."""

    version: Literal[1] = 1
    """Version of this format."""
    id: str
    """The export."""
    model: str
    """See `Export.model`."""
    job_id: str
    """See `Export.job_id`."""
    key: str
    """See `Export.key`."""
    format: ExportFormat
    """See `Export.format`."""
    quantization: Quantization | None
    """See `Export.quantization`."""
    push: Push | None
    """See `Export.push`."""
    cpus: int
    """Processors that it has."""


class ExportOutcome(Value):
    """How an export ended, in its own words."""

    error: ExportError | None = None
    """Why it failed; `None` where it did not."""
    files: tuple[ExportFile, ...] = ()
    """What it made."""
    parity: Parity | None = None
    """What the comparison found, also where it is the reason of the failure."""


class ExportReport(Value):
    """What the process of an export tells of itself."""

    attempt: int
    """The attempt that tells it."""
    progress: float = 0.0
    """Share that is done, 0 to 1."""
    message: str = ""
    """What it is at."""
    outcome: ExportOutcome | None = None
    """How it ended; `None` while it goes on."""
