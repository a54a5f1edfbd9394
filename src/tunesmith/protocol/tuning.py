"""Our own options of a job, in the one object `tuning`: as requests give and the job shows them.

`docs/reference/tuning.md` is written from these shapes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field

from tunesmith.domain.devices import Device
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.hyperparameters import resolve_preference
from tunesmith.domain.jobs import Job
from tunesmith.domain.spec import (
    LEARNING_RATES,
    MOST_WORKERS,
    THINK_MARKS,
    EarlyStopping,
    LoraSpec,
    Method,
    Optimizer,
    Policy,
    Precision,
    Priority,
    ThinkMark,
)
from tunesmith.domain.verdicts import Gate, VerdictSpec
from tunesmith.protocol.adapters import AdapterObject, AdapterRequest
from tunesmith.protocol.preferences import PreferenceObject, PreferenceRequest
from tunesmith.protocol.ranking import RankingRequest
from tunesmith.protocol.wire import Only, Wire

_MOST = 2_147_483_647

Count = Annotated[int, Field(ge=1, le=_MOST)]
"""A number of steps, examples or checkpoints, from 1."""

Length = Annotated[int, Field(ge=8, le=1_048_576)]
"""A length in tokens, 8 to 1048576."""

WeightDecay = Annotated[float, Field(ge=0, le=10)]
"""The optimizer's decoupled weight decay."""


class EarlyStoppingRequest(Wire):
    """Ends a run whose held-out loss no longer falls, and hands out its best checkpoint."""

    patience: Annotated[int, Field(ge=1, le=1000)] = 3
    """Evaluations in a row without a new best that are borne."""
    min_delta: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Nats by which the loss must fall to count as a new best."""


class VerdictRequest(Wire):
    """What the verdict has beside what every one has."""

    answers: Annotated[int, Field(ge=0, le=256)] = 0
    """How many held-out lines, the first ones, the model is asked before it is tuned and behind,
    for exact match and text similarity; with `supervised` and `reasoning` alone."""


class TuningRequest(Wire):
    """Our own options of a job; each may be left out."""

    objective: Literal["supervised", "reasoning", "pretraining", "embedding", "rerank"] | None = (
        None
    )
    """What is learnt: answers (`supervised`); thoughts and answers (`reasoning`); whole texts
    (`pretraining`); vectors of queries and passages (`embedding`) or their scores (`rerank`). Null
    means what `method` says; another needs the method to be `supervised` or left out."""
    preference: PreferenceRequest | None = None
    """With the method `dpo`: the loss that learns from the pairs; null means DPO's own."""
    think: Annotated[list[ThinkMark], Field(min_length=2, max_length=2)] | None = None
    """With `reasoning`: what begins and what ends a thought, as plain text, for models that have no
    `<think>` and `</think>` of their own; null means these two."""
    adapter: AdapterRequest = AdapterRequest()
    """The adapter's shape."""
    ranking: RankingRequest | None = None
    """How queries and passages are learnt from, with `embedding` and `rerank` alone; null means
    the defaults."""
    max_length: Length | None = None
    """Tokens of the longest example; null means 1024. A model whose context is shorter takes no
    more than that, and an event tells so."""
    over_length: Literal["cut", "refuse", "set_aside"] = "cut"
    """What becomes of longer examples: cut at their end, a reason to fail, or left out. With
    `pretraining`, `cut` makes windows of a longer text, and nothing of it is lost."""
    bad_rows: Literal["refuse", "set_aside"] = "refuse"
    """What becomes of rows that break a rule: a reason to fail, or left out."""
    bad_rows_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """With `bad_rows: set_aside`: the largest share of the rows that may be; beyond it, the job
    fails."""
    learning_rate: Annotated[float, Field(ge=LEARNING_RATES[0], le=LEARNING_RATES[1])] | None = None
    """The highest learning rate of the schedule, itself; it excludes `learning_rate_multiplier`.
    Null means that the multiplier decides."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Course of the learning rate after warm-up."""
    warmup_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the steps over which the learning rate rises from 0; null means 0.05."""
    optimizer: Literal["adamw", "adafactor"] = "adamw"
    """`adamw` (arXiv:1711.05101) keeps two numbers a trained weight; `adafactor` (arXiv:1804.04235)
    keeps one a row and one a column, which saves most of that memory in full training."""
    weight_decay: WeightDecay = 0.0
    """The optimizer's decoupled weight decay."""
    max_grad_norm: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Gradients are scaled down to this norm; null means 1."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass, which saves memory and takes time."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Number format of the frozen weights; `auto` is `bf16` where the processor multiplies it."""
    max_steps: Count | None = None
    """End after this many optimizer steps, whatever the epochs; null means no limit."""
    max_seconds: Annotated[int, Field(ge=1, le=31_536_000)] | None = None
    """End with the step in which this many seconds of training are over, evaluations and
    checkpoints counted, loading and pauses not; null means no limit. The last step is evaluated and
    kept as any run's is. The learning rate falls as if the run went on to its last epoch."""
    max_examples: Count | None = None
    """Train on the first this many examples only; null means all."""
    held_out_percent: Annotated[float, Field(ge=0, lt=100)] = 0.0
    """Share of the training file held out for evaluation; it excludes a `validation_file`."""
    evaluate_every: Count | None = None
    """Evaluate on the held-out examples every this many steps, and at the end; null means every
    tenth of the run, with `pretraining` no fewer than 50 steps."""
    early_stopping: EarlyStoppingRequest | None = None
    """End before the last epoch where the held-out loss no longer falls; null means never."""
    gate: Literal["better", "not_worse"] | None = None
    """Publish only if the verdict is `better`, or if it is `not_worse`; else the job fails, no
    model takes the name, and the checkpoints stay. It needs held-out examples. Null means that
    every result is published."""
    verdict: VerdictRequest = VerdictRequest()
    """What the verdict has beside what every one has."""
    checkpoint_every: Count | None = None
    """Save a checkpoint every this many steps, and at the end; null means each epoch, and every
    50 steps in a longer one or with `pretraining`."""
    keep_checkpoints: Count | None = None
    """How many of the newest checkpoints are kept; null means the operator's setting."""
    cpus: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Processors of each worker; null means all of the largest node, or with more workers as many
    as let all of them find a place. On another device than `cpu`, a node's processors are first
    divided by how many of it the node has."""
    memory: Annotated[int, Field(ge=1, le=2**53)] | None = None
    """Bytes of memory that are kept for each worker on its node; null means that none are."""
    priority: Priority = "normal"
    """Jobs of a higher priority have their turn first, and where they lack room, running jobs of a
    lower one save a checkpoint, make room and go on later."""
    max_run_seconds: Annotated[int, Field(ge=1, le=31_536_000)] | None = None
    """The job fails once it has run for this many seconds over all attempts, waiting and pauses not
    counted, and keeps its checkpoints; null means no limit. Jobs that have one may run ahead of
    their turn on what is free until then."""
    device: Literal["cpu", "cuda", "hpu", "xpu"] | None = None
    """What to train on: `cpu`, `cuda` (graphics cards by CUDA or ROCm), `hpu` (Gaudi) or `xpu`
    (Intel's graphics cards); null means the operator's setting, which is `cpu` by default. Of
    anything but processors, each worker holds one."""
    workers: Annotated[int, Field(ge=1, le=MOST_WORKERS)] = 1
    """Processes that train together, on one node or several, each on `cpus` processors, 1 to 256.
    The batch and its order are the same for any number."""
    min_workers: Annotated[int, Field(ge=1, le=MOST_WORKERS)] | None = None
    """The fewest that do, 1 to `workers`: each time that the job is launched, first or after a
    loss, it gets as many as find a place on the nodes that are there. Null means no fewer than
    `workers`."""
    packing: Annotated[
        bool, Only(False, mend="texts are packed in any case, none seeing another; leave it out")
    ] = False
    """False only, since there is no choice: texts are packed, and none sees another."""

    def asked(self, source: LoraSpec | None, *, device: Device) -> dict[str, Any]:
        """Return the fields of `JobRequest` that the options give.

        `source` is the shape of the adapter that the job starts from, if it does; `device` is what
        is trained on where the options leave it open.
        """
        left_out = {"objective", "adapter", "ranking", "device", "packing"}
        given = self.model_dump(exclude=left_out)
        stopping = self.early_stopping
        return given | {
            "device": Device(self.device or device),
            "lora": self.adapter.to_spec(source),
            "preference": self.preference.to_domain() if self.preference else None,
            "think": tuple(self.think) if self.think else None,
            "ranking": self.ranking.to_spec() if self.ranking else None,
            "over_length": Policy(self.over_length),
            "bad_rows": Policy(self.bad_rows),
            "precision": Precision(self.precision),
            "optimizer": Optimizer(self.optimizer),
            "early_stopping": EarlyStopping(**stopping.model_dump()) if stopping else None,
            "gate": Gate(self.gate) if self.gate else None,
            "verdict": VerdictSpec(answers=self.verdict.answers),
        }

    def to_method(self, method: Method) -> Method:
        """Return what is learnt, where OpenAI's `method` says `method`.

        Raises `InvalidRequestError` where the two contradict each other, or an option is
        given that what is learnt does not have.
        """
        if self.objective is not None and method is Method.DPO:
            raise _fault(
                "objective",
                f"is '{self.objective}', but 'method.type' is 'dpo', which learns from pairs; "
                "give only one of them",
            )
        chosen = Method(self.objective) if self.objective else method
        if self.preference is not None and chosen is not Method.DPO:
            raise _fault(
                "preference", 'is for pairs; set \'method\' to {"type": "dpo"}, or leave it out'
            )
        if self.think is not None and chosen is not Method.REASONING:
            raise _fault(
                "think", "needs 'tuning.objective' to be 'reasoning'; set it, or leave it out"
            )
        if self.think is not None and len({*self.think}) < len(self.think):
            raise _fault("think", "has the same mark twice; end thoughts by another one")
        if self.verdict.answers and chosen not in (Method.SUPERVISED, Method.REASONING):
            raise _fault(
                "verdict.answers", "is for 'supervised' and 'reasoning', which answer; leave it out"
            )
        return chosen

    def check(self, *, validation_file: bool, multiplier: bool) -> None:
        """Raise `InvalidRequestError` where options contradict each other or the rest of a request.

        `validation_file` and `multiplier` say whether the request gives them.
        """
        if self.learning_rate is not None and multiplier:
            raise _fault(
                "learning_rate",
                "is given, and so is 'learning_rate_multiplier'; give only one of them",
            )
        if self.held_out_percent and validation_file:
            raise _fault(
                "held_out_percent", "is given, and so is 'validation_file'; give only one of them"
            )
        if "bad_rows_share" in self.model_fields_set and self.bad_rows == "refuse":
            raise _fault(
                "bad_rows_share", "needs 'tuning.bad_rows' to be 'set_aside'; set it, or leave out"
            )
        if self.min_workers is not None and self.min_workers > self.workers:
            raise _fault("min_workers", f"is more than 'tuning.workers', which is {self.workers}")
        if validation_file or self.held_out_percent:
            return
        asked = {
            "early_stopping": self.early_stopping,
            "evaluate_every": self.evaluate_every,
            "gate": self.gate,
            "verdict.answers": self.verdict.answers or None,
        }
        for key, value in asked.items():
            if value is not None:
                raise _fault(
                    key,
                    "needs held-out examples: give a 'validation_file', or set "
                    "'tuning.held_out_percent'",
                )


def _fault(key: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(f"'tuning.{key}' {message}.", param=f"tuning.{key}")


class TuningObject(Wire):
    """Our own options of a job, as asked for; what was left open shows its value once launched."""

    objective: str | None
    """What is learnt, where it is no pairs."""
    preference: PreferenceObject | None
    """The loss that learns from pairs."""
    think: list[str] | None
    """Of reasoning: what begins and what ends a thought, for models with no marks of their own."""
    adapter: AdapterObject
    """The adapter's shape."""
    ranking: RankingRequest | None
    """How queries and passages are learnt from; null in other methods."""
    max_length: int | None
    """Tokens of the longest example, where the model's context is no shorter."""
    over_length: str
    """What becomes of longer examples."""
    bad_rows: str
    """What becomes of rows that break a rule."""
    bad_rows_share: float
    """The largest share of rows that may be set aside."""
    learning_rate: float | None
    """The highest learning rate of the schedule."""
    schedule: str
    """Course of the learning rate after warm-up."""
    warmup_ratio: float | None
    """Share of the steps over which the learning rate rises from 0."""
    optimizer: str
    """What turns gradients into changes of the weights."""
    weight_decay: float
    """The optimizer's decoupled weight decay."""
    max_grad_norm: float | None
    """Gradients are scaled down to this norm."""
    gradient_checkpointing: bool
    """Whether activations are recomputed in the backward pass."""
    precision: str
    """Number format of the frozen weights."""
    max_steps: int | None
    """End after this many optimizer steps."""
    max_seconds: int | None
    """End with the step in which this many seconds of training are over."""
    max_examples: int | None
    """Train on the first this many examples only."""
    held_out_percent: float
    """Share of the training file held out for evaluation."""
    evaluate_every: int | None
    """Steps between evaluations."""
    early_stopping: EarlyStoppingRequest | None
    """When to end before the last epoch."""
    gate: Literal["better", "not_worse"] | None
    """What the verdict has to be for the result to be published."""
    verdict: VerdictRequest
    """What the verdict has beside what every one has."""
    checkpoint_every: int | None
    """Steps between checkpoints."""
    keep_checkpoints: int | None
    """How many of the newest checkpoints are kept."""
    cpus: int | None
    """Processors of each worker."""
    memory: int | None
    """Bytes of memory that are kept for each worker."""
    priority: Priority
    """Its turn in the queue."""
    max_run_seconds: int | None
    """Seconds that the job may run."""
    device: Literal["cpu", "cuda", "hpu", "xpu"]
    """What it is trained on."""
    workers: int
    """Processes that train together: as asked for, or once launched, as many as found a place."""
    min_workers: int | None
    """The fewest that do."""
    packing: Literal[False] = False
    """False always: texts are packed in any case, and none sees another."""

    @classmethod
    def to_wire(cls, job: Job) -> Self:
        """Return the options of `job` as clients see them."""
        request = job.request
        preference = resolve_preference(request)
        reasons = request.method is Method.REASONING
        shown = request.model_dump(mode="json", include=set(cls.model_fields))
        if job.resolved is not None:
            shown["learning_rate"] = job.resolved.learning_rate
        if job.tuning is not None:
            shown |= job.tuning.model_dump()
        return cls(
            **{
                **shown,
                "objective": None if preference else request.method.value,
                "preference": PreferenceObject.to_wire(preference) if preference else None,
                "think": list(request.think or THINK_MARKS) if reasons else None,
                "adapter": AdapterObject.to_wire(request.lora),
                "ranking": RankingRequest.of(request),
                "early_stopping": _stopping(request.early_stopping),
            }
        )


def _stopping(stopping: EarlyStopping | None) -> EarlyStoppingRequest | None:
    if stopping is None:
        return None
    return EarlyStoppingRequest(patience=stopping.patience, min_delta=stopping.min_delta)
