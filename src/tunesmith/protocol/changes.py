"""What a failed job's request would have to say instead, in OpenAI's shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import JsonValue

from tunesmith.domain.changes import Change
from tunesmith.domain.ids import Dialect
from tunesmith.domain.jobs import Job
from tunesmith.domain.spec import JobRequest, Method

_OPTIONS: dict[Dialect, dict[str, str]] = {
    Dialect.OPENAI: {
        "bad_rows": "tuning.bad_rows",
        "cpus": "tuning.cpus",
        "device": "tuning.device",
        "early_stopping": "tuning.early_stopping",
        "gate": "tuning.gate",
        "gradient_checkpointing": "tuning.gradient_checkpointing",
        "held_out_percent": "tuning.held_out_percent",
        "learning_rate": "tuning.learning_rate",
        "lora": "tuning.adapter.kind",
        "lora.also_train": "tuning.adapter.also_train",
        "lora.quantized": "tuning.adapter.kind",
        "lora.targets": "tuning.adapter.targets",
        "max_length": "tuning.max_length",
        "max_run_seconds": "tuning.max_run_seconds",
        "memory": "tuning.memory",
        "over_length": "tuning.over_length",
        "precision": "tuning.precision",
        "ranking.passage_max_len": "tuning.ranking.passage_max_len",
        "ranking.query_max_len": "tuning.ranking.query_max_len",
        "min_workers": "tuning.min_workers",
        "workers": "tuning.workers",
    },
    Dialect.OPEA: {
        "cpus": "Training.resources_per_worker.CPU",
        "device": "Training.device",
        "learning_rate": "Training.learning_rate",
        "lora.also_train": "General.resume_from_checkpoint",
        "lora.targets": "General.lora_config.target_modules",
        "workers": "Training.num_training_workers",
    },
}
"""What each dialect calls the options that a job can fail for, or be changed in."""

_KINDS = {"lora": "lora", "lora.quantized": "qlora"}
"""How a request asks for what is a shape of its own in the domain."""


def key_of(field: str, dialect: Dialect) -> str:
    """Return what `dialect` calls a request's `field`, which is a path in `JobRequest` or a key."""
    return _OPTIONS[dialect].get(field, field)


def change_to_wire(job: Job) -> dict[str, Any] | None:
    """Return the part of a request that mends what `job` failed for; `None` where there is none.

    Merged key by key over the request that was sent, it wins, whatever that has said.
    """
    if job.error is None or job.error.change is None:
        return None
    wire: dict[str, Any] = {}
    for key, value in _settings(job.error.change, job.request):
        *above, last = key.split(".")
        place = wire
        for name in above:
            place = place.setdefault(name, {})
        place[last] = value
    return wire


def _settings(change: Change, request: JobRequest) -> Iterator[tuple[str, JsonValue]]:
    """Yield each key that is to be set, by its path, with its value."""
    for field, value in change.items():
        yield key_of(field, Dialect.OPENAI), _KINDS.get(field, value)
    if "learning_rate" in change and request.learning_rate_multiplier is not None:
        yield from _silenced(request.method)


def _silenced(method: Method) -> Iterator[tuple[str, JsonValue]]:
    """Yield all places in which a request may have given a multiplier of the learning rate."""
    if method is Method.DPO:
        yield "method.dpo.hyperparameters.learning_rate_multiplier", "auto"
        return
    yield "hyperparameters.learning_rate_multiplier", "auto"
    yield "method.type", "supervised"
    yield "method.supervised.hyperparameters.learning_rate_multiplier", "auto"
