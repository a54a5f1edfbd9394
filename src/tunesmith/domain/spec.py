"""What a job asks for, and the frozen spec that training gets.

A request leaves things open (`None` means "auto"); the controller closes each
of them once, by the rules in `tunesmith.controller.resolve`, and writes one
`TrainSpec`. Training has no defaults of its own.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from tunesmith.domain.models import CatalogueEntry
from tunesmith.domain.values import Value

LEARNING_RATES = (1e-8, 1.0)
"""The lowest and the highest learning rate: below, weights stay as they are; above, they burst."""

MULTIPLIERS = (1e-4, 1e3)
"""The lowest and the highest factor on the base learning rate, which keep it in those bounds."""


class Precision(StrEnum):
    """Number format of the frozen weights and of the matrix products."""

    AUTO = "auto"
    """`bf16` where the processor multiplies it natively, else `fp32`."""
    BF16 = "bf16"
    FP32 = "fp32"


class LoraSpec(Value):
    """The adapter's shape. Low-Rank Adaptation, Hu et al. 2021, arXiv:2106.09685."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """Inner dimension of the two factors."""
    alpha: Annotated[float, Field(gt=0)] = 32.0
    """The product is scaled by `alpha / rank`."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the adapter's inputs zeroed while training."""
    targets: tuple[str, ...] | None = None
    """Names of the modules that are adapted; `None` means every linear layer but the head."""


class JobRequest(Value):
    """What the client asked for, with `None` for `"auto"`; both dialects are translated to this."""

    n_epochs: Annotated[int, Field(ge=1, le=50)] | None = None
    """How often each example is seen."""
    batch_size: Annotated[int, Field(ge=1, le=256)] | None = None
    """Examples behind one optimizer step."""
    learning_rate_multiplier: (
        Annotated[float, Field(ge=MULTIPLIERS[0], le=MULTIPLIERS[1])] | None
    ) = None
    """Factor on the base learning rate (OpenAI's dialect)."""
    learning_rate: Annotated[float, Field(ge=LEARNING_RATES[0], le=LEARNING_RATES[1])] | None = None
    """Absolute learning rate; it wins over the multiplier (OPEA's dialect)."""
    lora: LoraSpec = LoraSpec()
    """The adapter's shape."""
    max_length: Annotated[int, Field(ge=8)] | None = None
    """Tokens of the longest example; what is beyond is cut."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """End after this many optimizer steps, whatever the epochs."""
    max_examples: Annotated[int, Field(ge=1)] | None = None
    """Train on the first this many examples only."""
    held_out_percent: Annotated[float, Field(ge=0, lt=100)] = 0.0
    """Share of the training file held out for evaluation where no validation file is given."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Course of the learning rate after warm-up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's decoupled weight decay."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    checkpoint_every: Annotated[int, Field(ge=1)] | None = None
    """Save a checkpoint every this many steps, besides the one at the end."""
    precision: Precision = Precision.AUTO
    """Number format of the frozen weights and matrix products."""
    cpus: Annotated[int, Field(ge=1)] | None = None
    """Processors to train on; `None` means all of the largest node."""
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Fourth part of the tuned model's name."""
    metadata: dict[str, str] | None = None
    """The client's own labels."""


class ResolvedHyperparameters(Value):
    """What the three hyperparameters that clients see really are."""

    examples: int
    """Examples in the training file."""
    n_epochs: int
    """How often each example is seen."""
    batch_size: int
    """Examples behind one optimizer step."""
    learning_rate_multiplier: float
    """Factor on the base learning rate."""
    learning_rate: float
    """The highest learning rate of the schedule."""


class DataFile(Value):
    """A data file as training reads it."""

    id: str
    """File id."""
    filename: str
    """The name the uploader gave, for messages."""
    key: str
    """Where `artifacts` holds it."""
    sha256: str
    """SHA-256 of the content, in hex."""


class TrainSpec(Value):
    """Everything that decides a run's result, frozen before the first attempt."""

    version: Literal[1] = 1
    """Version of this format."""
    job_id: str
    """The job."""
    tuned_model: str
    """Name the result will have."""
    base_model: CatalogueEntry
    """What is tuned."""
    training_file: DataFile
    """What is learnt from."""
    validation_file: DataFile | None
    """What the run is evaluated on, if not on a share of the training file."""
    held_out_percent: float
    """Share of the training file held out; 0 where a validation file is given."""
    max_examples: int | None
    """Train on the first this many examples only."""
    max_length: int
    """Tokens of the longest example; what is beyond is cut."""
    seed: int
    """Seed of the data order, the adapter's start and dropout."""
    n_epochs: int
    """How often each example is seen."""
    max_steps: int | None
    """End after this many optimizer steps, whatever the epochs."""
    batch_size: int
    """Examples behind one optimizer step."""
    learning_rate: float
    """The highest learning rate of the schedule."""
    schedule: Literal["linear", "cosine", "constant"]
    """Course of the learning rate after warm-up."""
    warmup_ratio: float
    """Share of the steps over which the learning rate rises from 0."""
    weight_decay: float
    """AdamW's decoupled weight decay."""
    max_grad_norm: float
    """Gradients are scaled down to this norm."""
    lora: LoraSpec
    """The adapter's shape."""
    gradient_checkpointing: bool
    """Recompute activations in the backward pass to save memory."""
    precision: Precision
    """Number format of the frozen weights and matrix products."""
    evaluate_every: int
    """Evaluate on the held-out examples every this many steps, and at the end."""
    checkpoint_every: int
    """Save a checkpoint every this many steps, and at the end."""
    keep_checkpoints: int
    """How many of a run's newest checkpoints are kept."""
    cpus: int
    """Processors granted: the number of threads that training uses."""
