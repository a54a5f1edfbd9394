"""The `Training` section of OPEA's request: every key with OPEA's default.

A key that this version cannot honour takes only the values that ask nothing of it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tunesmith.domain.devices import Device
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.spec import LEARNING_RATES, MOST_WORKERS, Optimizer, Precision
from tunesmith.protocol.ranking import Temperature
from tunesmith.protocol.tuning import WeightDecay
from tunesmith.protocol.wire import Only, Wire

_ONE = "each worker has one; ask for more with 'num_training_workers'"
_DEVICES = {"cpu": Device.CPU, "gpu": Device.CUDA, "cuda": Device.CUDA, "hpu": Device.HPU}
"""OPEA's names of devices."""

Rate = Annotated[float, Field(ge=LEARNING_RATES[0], le=LEARNING_RATES[1])]
"""An absolute learning rate, from 1e-8 to 1."""


def _lowered(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class Resources(Wire):
    """What one worker gets."""

    CPU: Annotated[int, Field(ge=1, le=65_536)] = 32
    """Processors of each worker; honoured only if given, else as many as the nodes have for all."""
    GPU: Annotated[float, Only(0, 1, mend=_ONE)] = 0
    """0 or 1; with the device `gpu` or `cuda` each worker has one in any case."""
    HPU: Annotated[float, Only(0, 1, mend=_ONE)] = 0
    """0 or 1; with the device `hpu` each worker has one in any case."""


class EmbeddingConfig(Wire):
    """Settings of the task `embedding`; with other tasks without effect."""

    negatives_cross_device: bool = False
    """No effect: the other queries of the batch are shared among all workers in any case."""
    temperature: Temperature = 0.02
    """Similarities are divided by it, 0.001 to 10. No effect with other tasks."""
    sentence_pooling_method: Literal["cls", "mean"] = "cls"
    """A text's vector is its first token's, or the mean over all. No effect with other tasks."""
    normalized: bool = True
    """Whether vectors are scaled to length 1. No effect with other tasks."""
    use_inbatch_neg: bool = True
    """Whether the other queries' passages do not answer a query either. No effect with other
    tasks."""


class TrainingSection(Wire):
    """How it is learnt."""

    optimizer: Annotated[
        str,
        Only(
            "adamw_torch",
            "adafactor",
            mend="this version learns with 'adamw_torch' or 'adafactor'",
        ),
    ] = "adamw_torch"
    """`adamw_torch` or `adafactor`."""
    batch_size: Annotated[int, Field(ge=1, le=256)] = 2
    """Examples of one forward pass, 1 to 256; see `gradient_accumulation_steps`."""
    epochs: Annotated[int, Field(ge=1, le=50)] = 1
    """How often each example is seen, 1 to 50."""
    max_train_steps: Annotated[int, Field(ge=1, le=2_147_483_647)] | None = None
    """End after this many optimizer steps, whatever the epochs."""
    learning_rate: Rate = 5e-5
    """The highest learning rate of the schedule, from 1e-8 to 1."""
    lr_scheduler: Literal["linear", "cosine", "constant"] = "linear"
    """Course of the learning rate after warm-up."""
    weight_decay: WeightDecay = 0.0
    """The optimizer's decoupled weight decay, 0 to 10."""
    device: Annotated[
        Literal["cpu", "gpu", "hpu", "cuda"],
        BeforeValidator(_lowered),
    ] = "cpu"
    """`cpu`, `hpu`, or `gpu`, which `cuda` means too, in upper or lower case; honoured only if
    given, else it is the operator's setting."""
    hpu_execution_mode: Literal["lazy", "eager", "eager.compile"] = "lazy"
    """No effect: Gaudi's own variable `PT_HPU_LAZY_MODE` says it for all jobs of a node."""
    num_training_workers: Annotated[int, Field(ge=1, le=MOST_WORKERS)] = 1
    """Workers that train together, 1 to 256; unlike OPEA's, they share the batch, which stays as
    large as it is."""
    resources_per_worker: Resources = Resources()
    """What each worker gets."""
    accelerate_mode: Annotated[
        Literal["DDP", "FSDP", "DEEPSPEED"],
        Only("DDP", mend="each worker of this version holds the whole model; leave it out"),
    ] = "DDP"
    """`DDP` only: each worker holds the whole model, and gradients are summed."""
    mixed_precision: Annotated[
        Literal["bf16", "fp16", "no"],
        Only("bf16", "no", mend="processors multiply 'bf16' or, with 'no', 32-bit numbers"),
    ] = "no"
    """`bf16`, or `no` for 32 bits; where it is not given, `bf16` if the processor has it."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=256)] = 1
    """Batches behind one optimizer step; at most 256 examples in all."""
    logging_steps: Annotated[int, Field(ge=1)] = 10
    """No effect: each step is logged."""
    deepspeed_config_file: Annotated[
        str, Only("", mend="this version has no DeepSpeed; leave it out")
    ] = ""
    """Empty only."""
    embedding_training_config: EmbeddingConfig = EmbeddingConfig()
    """How vectors are learnt, with the task `embedding`."""
    dpo_beta: Annotated[float, Field(gt=0, le=2)] = 0.1
    """With the task `dpo`: how closely the model is held to where it began, above 0, at most 2."""

    def to_optimizer(self) -> Optimizer:
        """Return the optimizer, which OPEA names as transformers does."""
        return Optimizer(self.optimizer.removesuffix("_torch"))

    def to_precision(self) -> Precision:
        """Return the number format that the request asks for."""
        if "mixed_precision" not in self.model_fields_set:
            return Precision.AUTO
        return Precision.BF16 if self.mixed_precision == "bf16" else Precision.FP32

    def to_device(self, default: Device) -> Device:
        """Return what is trained on: `default` where the request itself does not say it.

        Raises `InvalidRequestError` where workers are to have devices of another kind.
        """
        device = _DEVICES[self.device] if "device" in self.model_fields_set else default
        for name in ("GPU", "HPU"):
            if device.resource != name and getattr(self.resources_per_worker, name):
                raise InvalidRequestError(
                    f"'Training.resources_per_worker.{name}' is 1, but the job is trained on "
                    f"'{device}'. Set 'Training.device' to '{name.lower()}', or leave it out.",
                    param=f"Training.resources_per_worker.{name}",
                )
        return device

    def to_cpus(self) -> int | None:
        """Return the processors that the request itself asks for; OPEA's default is none."""
        given = self.resources_per_worker.model_fields_set
        return self.resources_per_worker.CPU if "CPU" in given else None
