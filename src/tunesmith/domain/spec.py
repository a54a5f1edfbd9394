"""What a job asks for, and the frozen spec that training gets.

The controller closes what a request leaves open (`None` means "auto") once, by the rules in
`domain.hyperparameters` and `controller.resolve`. Training has no defaults of its own.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from tunesmith.domain.devices import Device
from tunesmith.domain.models import CatalogueEntry, WholeModel
from tunesmith.domain.preferences import Preference
from tunesmith.domain.tracking import MOST_INTEGRATIONS, Integration
from tunesmith.domain.values import Value
from tunesmith.domain.verdicts import Gate, VerdictSpec

LEARNING_RATES = (1e-8, 1.0)
"""The lowest and the highest learning rate: below, weights stay as they are; above, they burst."""

MULTIPLIERS = (1e-4, 1e3)
"""The lowest and the highest factor on the base learning rate, which keep it in those bounds."""

MOST_WORKERS = 256
"""The most workers of a job: the examples of the largest batch."""

ThinkMark = Annotated[str, Field(pattern=r"^\S{1,64}$")]
"""What begins or ends a thought: 1 to 64 characters, none of them a blank."""

ThinkMarks = tuple[ThinkMark, ThinkMark]
"""What begins a thought, and what ends it."""

THINK_MARKS: ThinkMarks = ("<think>", "</think>")
"""The usual marks, which most models that think have as tokens of their own."""

Priority = Literal["low", "normal", "high"]
"""How soon a job has its turn, beside the others that wait."""

PRIORITIES: tuple[Priority, ...] = ("low", "normal", "high")
"""All priorities, the lowest first."""


class Method(StrEnum):
    """What is learnt: the first two in OpenAI's words, the others ours and OPEA's."""

    SUPERVISED = "supervised"
    """From conversations, whose answers are learnt."""
    DPO = "dpo"
    """From pairs of a preferred and another answer, by one of the losses of `preferences.py`."""
    REASONING = "reasoning"
    """From questions, thoughts about them, and answers; thought and answer are learnt."""
    PRETRAINING = "pretraining"
    """From plain texts, each token of which is learnt."""
    EMBEDDING = "embedding"
    """From queries and passages: a text's vector comes to lie near those of its answers."""
    RERANK = "rerank"
    """From queries and passages: the passage that answers comes to score highest."""


class Policy(StrEnum):
    """What becomes of a row that cannot be learnt from as it is."""

    REFUSE = "refuse"
    """The job fails, and says why."""
    SET_ASIDE = "set_aside"
    """The row is left out, and the receipt says why."""
    CUT = "cut"
    """What is too long is cut at its end, and the receipt says so; a plain text is cut into
    windows, which are all learnt."""


class Precision(StrEnum):
    """Number format of the frozen weights and of the matrix products; what is trained is `fp32`."""

    AUTO = "auto"
    """`bf16` where the processor multiplies it natively, else `fp32`."""
    BF16 = "bf16"
    FP32 = "fp32"


class Optimizer(StrEnum):
    """What turns gradients into changes of the weights."""

    ADAMW = "adamw"
    """Two numbers of state for each trained weight."""
    ADAFACTOR = "adafactor"
    """One number of state for each row and each column of a matrix of trained weights."""


class WholeLayer(StrEnum):
    """A layer that may be trained as a whole beside an adapter."""

    EMBEDDINGS = "embeddings"
    """What makes vectors of tokens."""
    HEAD = "head"
    """What makes logits of the last states; where it shares its weights with the embeddings, each
    of the two means both."""


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
    rslora: bool = False
    """Scale by `alpha / sqrt(rank)` instead. Kalajdzievski 2023, arXiv:2312.03732."""
    dora: bool = False
    """Learn magnitude and direction apart (DoRA). Liu et al. 2024, arXiv:2402.09353."""
    quantized: bool = False
    """Keep the frozen weights in 4 bits (QLoRA). Dettmers et al. 2023, arXiv:2305.14314."""
    also_train: tuple[WholeLayer, ...] = ()
    """Layers that are trained as a whole beside the factors, each at most once, in their order."""


RANKED = frozenset({Method.EMBEDDING, Method.RERANK})
"""The methods that learn from queries with passages."""


class RankingSpec(Value):
    """How queries and passages are learnt from; for `embedding` and `rerank` alone."""

    group_size: Annotated[int, Field(ge=1, le=256)] = 8
    """Passages that a query is shown with in a step: 1 that answers it, the others do not."""
    query_max_len: Annotated[int, Field(ge=8)] = 128
    """Tokens of the longest query; what is beyond is cut."""
    passage_max_len: Annotated[int, Field(ge=8)] = 128
    """Tokens of the longest passage; `rerank` cuts the pair at the sum of both lengths."""
    query_instruction: str = ""
    """What goes before each query, letter by letter; a row's own `prompt` goes in its place."""
    passage_instruction: str = ""
    """What goes before each passage, letter by letter."""
    temperature: Annotated[float, Field(ge=1e-3, le=10)] = 0.02
    """Embedding alone: similarities are divided by it. Oord et al. 2018, arXiv:1807.03748."""
    pooling: Literal["cls", "mean"] = "cls"
    """Embedding alone: a text's vector is its first token's, or the mean of all its tokens'."""
    normalized: bool = True
    """Embedding alone: whether vectors are scaled to length 1."""
    in_batch_negatives: bool = True
    """Embedding alone: whether the other queries' passages do not answer a query either."""


class EarlyStopping(Value):
    """Ends a run whose held-out loss no longer falls, and hands out its best checkpoint."""

    patience: Annotated[int, Field(ge=1, le=1000)] = 3
    """Evaluations in a row without a new best that are borne."""
    min_delta: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Nats by which the loss must fall to count as a new best."""


class JobRequest(Value):
    """What the client asked for, with `None` for `"auto"`; both dialects are translated to this."""

    method: Method = Method.SUPERVISED
    """How is tuned."""
    beta: Annotated[float, Field(gt=0, le=2)] | None = None
    """Pairs alone: how closely the model is held to where it began; `None` means 0.1."""
    preference: Preference | None = None
    """Pairs alone: the loss; `None` means DPO's own."""
    think: ThinkMarks | None = None
    """Reasoning alone: what begins and ends a thought, for models with no marks of their own;
    `None` means `THINK_MARKS`."""
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
    ranking: RankingSpec | None = None
    """How queries and passages are learnt from; `None` means the defaults."""
    lora: LoraSpec | None = LoraSpec()
    """The adapter's shape; `None` means none: all weights are trained."""
    max_length: Annotated[int, Field(ge=8)] | None = None
    """Tokens of the longest example; what is beyond is cut."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """End after this many optimizer steps, whatever the epochs."""
    max_seconds: Annotated[int, Field(ge=1)] | None = None
    """End with the step in which this many seconds of training are over."""
    max_examples: Annotated[int, Field(ge=1)] | None = None
    """Train on the first this many examples only."""
    held_out_percent: Annotated[float, Field(ge=0, lt=100)] = 0.0
    """Share of the training file held out for evaluation where no validation file is given."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Course of the learning rate after warm-up."""
    warmup_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the steps over which the learning rate rises from 0."""
    optimizer: Optimizer = Optimizer.ADAMW
    """What turns gradients into changes of the weights."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """The optimizer's decoupled weight decay."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None = None
    """Gradients are scaled down to this norm."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    evaluate_every: Annotated[int, Field(ge=1)] | None = None
    """Evaluate on the held-out examples every this many steps, and at the end."""
    early_stopping: EarlyStopping | None = None
    """End before the last epoch where the held-out loss no longer falls; `None` means never."""
    gate: Gate | None = None
    """What the verdict has to be for the tuned model to take its name; `None` means anything."""
    verdict: VerdictSpec = VerdictSpec()
    """What the verdict has beside what every one has."""
    checkpoint_every: Annotated[int, Field(ge=1)] | None = None
    """Save a checkpoint every this many steps, besides the one at the end."""
    keep_checkpoints: Annotated[int, Field(ge=1)] | None = None
    """How many of the newest checkpoints are kept; `None` means the operator's setting."""
    bad_rows: Literal[Policy.REFUSE, Policy.SET_ASIDE] = Policy.REFUSE
    """What becomes of rows that break a rule."""
    bad_rows_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """With `set_aside`: the largest share of the rows that may be; beyond it the job fails."""
    over_length: Literal[Policy.CUT, Policy.REFUSE, Policy.SET_ASIDE] = Policy.CUT
    """What becomes of examples with more tokens than `max_length`."""
    precision: Precision = Precision.AUTO
    """Number format of the frozen weights and matrix products."""
    device: Device = Device.CPU
    """What is trained on; of anything but processors, each worker holds one."""
    cpus: Annotated[int, Field(ge=1)] | None = None
    """Processors of each worker; `None` means as many as let all workers find a place."""
    memory: Annotated[int, Field(ge=1)] | None = None
    """Bytes of memory that are kept for each worker on its node; `None` means none."""
    priority: Priority = "normal"
    """Its turn in the queue."""
    max_run_seconds: Annotated[int, Field(ge=1)] | None = None
    """The job fails once it has run for so many seconds, waiting not counted; `None`: never."""
    workers: Annotated[int, Field(ge=1, le=MOST_WORKERS)] = 1
    """Processes that train together, each on processors of its own."""
    min_workers: Annotated[int, Field(ge=1, le=MOST_WORKERS)] | None = None
    """The fewest that do, where the cluster has no place for `workers`; `None` means no fewer."""
    integrations: Annotated[tuple[Integration, ...], Field(max_length=MOST_INTEGRATIONS)] = ()
    """Services that are told of the run's metrics."""
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Fourth part of the tuned model's name."""
    metadata: dict[str, str] | None = None
    """The client's own labels."""

    @property
    def fewest_workers(self) -> int:
        """The fewest workers that an attempt may have."""
        return self.min_workers or self.workers


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
    beneath: WholeModel | None = None
    """The tuned model that stands in the base model's place; `None` means the base model itself."""
    start_from: str | None
    """Prefix under which `artifacts` holds the adapter that is tuned on; `None` means a new one."""
    method: Method
    """How is tuned."""
    beta: float | None
    """Pairs alone, with a loss that has a reference: how closely the model is held to it."""
    preference: Preference | None
    """Pairs alone: the loss."""
    think: ThinkMarks
    """Reasoning: what begins and ends a thought, for models with no marks of their own."""
    ranking: RankingSpec | None
    """How queries and passages are learnt from; `None` for the methods that have none."""
    training_file: DataFile
    """What is learnt from."""
    validation_file: DataFile | None
    """What the run is evaluated on, if not on a share of the training file."""
    held_out_percent: float
    """Share of the training file held out; 0 where a validation file is given."""
    max_examples: int | None
    """Train on the first this many examples only."""
    max_length: int
    """Tokens of the longest example."""
    bad_rows: Literal[Policy.REFUSE, Policy.SET_ASIDE]
    """What becomes of rows that break a rule; with `refuse`, a checked file has none."""
    over_length: Literal[Policy.CUT, Policy.REFUSE, Policy.SET_ASIDE]
    """What becomes of examples with more tokens than `max_length`."""
    seed: int
    """Seed of the data order, the adapter's start and dropout."""
    n_epochs: int
    """How often each example is seen."""
    max_steps: int | None
    """End after this many optimizer steps, whatever the epochs."""
    max_seconds: int | None
    """End with the step in which this many seconds of training are over."""
    batch_size: int
    """Examples behind one optimizer step."""
    learning_rate: float
    """The highest learning rate of the schedule."""
    schedule: Literal["linear", "cosine", "constant"]
    """Course of the learning rate after warm-up."""
    warmup_ratio: float
    """Share of the steps over which the learning rate rises from 0."""
    optimizer: Optimizer
    """What turns gradients into changes of the weights."""
    weight_decay: float
    """The optimizer's decoupled weight decay."""
    max_grad_norm: float
    """Gradients are scaled down to this norm."""
    lora: LoraSpec | None
    """The adapter's shape; `None` means none: all weights are trained."""
    gradient_checkpointing: bool
    """Recompute activations in the backward pass to save memory."""
    precision: Precision
    """Number format of the frozen weights and matrix products."""
    evaluate_every: int
    """Evaluate on the held-out examples every this many steps, and at the end."""
    early_stopping: EarlyStopping | None
    """End where the held-out loss no longer falls."""
    gate: Gate | None = None
    """What the verdict has to be for the tuned model to take its name; `None` means anything."""
    verdict: VerdictSpec = VerdictSpec()
    """What the verdict has beside what every one has."""
    checkpoint_every: int
    """Save a checkpoint every this many steps, and at the end."""
    keep_checkpoints: int
    """How many of a run's newest checkpoints are kept."""
    device: Device = Device.CPU
    """What is trained on."""
    cpus: int
    """Processors granted to each worker: the number of threads that it uses."""
    memory: int | None
    """Bytes of memory that are kept for each worker on its node; `None` means none."""
    workers: int
    """Processes that train together in the newest attempt."""
    integrations: tuple[Integration, ...]
    """Services that are told of the run's metrics: those asked for, then the operator's."""
    measured: bool = False
    """Whether the run only measures a few steps, and makes no result."""

    @property
    def held_out_file(self) -> Literal["training", "validation"]:
        """Which of the files the held-out examples are of."""
        return "training" if self.validation_file is None else "validation"
