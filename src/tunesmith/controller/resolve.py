"""The rules by which each value that a request leaves open is closed, once.

| value | rule |
|---|---|
| `n_epochs` | 1,500 examples' worth of passes: `1500 / examples`, rounded up, 1 to 10 |
| `batch_size` | one thirty-second of the examples, 4 to 16 |
| `learning_rate` | `BASE_LEARNING_RATE` times the multiplier, which is 1 |
| `max_length` | 1,024 tokens; training takes the model's own context where that is shorter |
| `checkpoint_every` | one epoch, at most 50 steps |
| `warmup_ratio` | `WARMUP_RATIO` of the steps |
| `max_grad_norm` | `MAX_GRAD_NORM` |
| `evaluate_every` | every tenth of the run |
| `beta` | `DPO_BETA`, for DPO alone |
| `cpus` | all processors of the largest node |
"""

from __future__ import annotations

import math

from tunesmith.cluster.protocol import Resources
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.files import File
from tunesmith.domain.ids import tuned_model_name
from tunesmith.domain.jobs import Job
from tunesmith.domain.models import CatalogueEntry
from tunesmith.domain.spec import DataFile, JobRequest, Method, ResolvedHyperparameters, TrainSpec

BASE_LEARNING_RATE = 5e-4
"""Learning rate at `learning_rate_multiplier` 1, for adapters trained by AdamW."""
MAX_LENGTH = 1024
"""Tokens of the longest example, unless the request says otherwise."""
WARMUP_RATIO = 0.05
"""Share of the steps over which the learning rate rises."""
MAX_GRAD_NORM = 1.0
"""Gradients are scaled down to this norm."""

DPO_BETA = 0.1
"""How closely DPO holds the model to where it began, as its authors do."""


def resolve_hyperparameters(request: JobRequest, *, examples: int) -> ResolvedHyperparameters:
    """Close the hyperparameters that clients see, from the number of `examples` to learn from."""
    multiplier = request.learning_rate_multiplier
    rate = request.learning_rate
    if rate is None:
        multiplier = multiplier if multiplier is not None else 1.0
        rate = BASE_LEARNING_RATE * multiplier
    return ResolvedHyperparameters(
        examples=examples,
        n_epochs=request.n_epochs or min(10, max(1, math.ceil(1500 / examples))),
        batch_size=request.batch_size or min(16, max(4, examples // 32)),
        learning_rate=rate,
        learning_rate_multiplier=multiplier or rate / BASE_LEARNING_RATE,
        beta=(request.beta or DPO_BETA) if request.method is Method.DPO else None,
    )


def resolve_cpus(request: JobRequest, resources: Resources) -> int:
    """Return the processors to train on. Raises `InvalidRequestError` if no node has so many."""
    largest = max((node.cpus for node in resources.nodes), default=0.0)
    cpus = request.cpus or int(largest)
    if cpus < 1 or cpus > largest:
        raise InvalidRequestError(
            f"No node of the cluster has {max(cpus, 1)} CPUs; the largest has {largest:g}. "
            "Ask for fewer, or leave it open to use all of the largest node.",
            param="cpus",
        )
    return cpus


def resolve_spec(
    job: Job, *, entry: CatalogueEntry, files: tuple[File, File | None], cpus: int, keep: int
) -> TrainSpec:
    """Freeze everything that decides the run's result.

    `job` has its hyperparameters resolved, `files` are its training and
    validation file, `keep` is how many checkpoints are kept.
    """
    request, resolved = job.request, job.resolved
    if resolved is None:
        raise ValueError(f"Job '{job.id}' has not been validated.")
    training, validation = files
    steps_per_epoch = math.ceil(resolved.examples / resolved.batch_size)
    steps = min(steps_per_epoch * resolved.n_epochs, request.max_steps or 10**9)
    return TrainSpec(
        job_id=job.id,
        tuned_model=tuned_model_name(
            base=job.model, organization=job.organization, suffix=request.suffix, job_id=job.id
        ),
        base_model=entry,
        start_from=None,
        method=request.method,
        beta=resolved.beta,
        training_file=_data_file(training),
        validation_file=_data_file(validation) if validation else None,
        held_out_percent=0.0 if validation else request.held_out_percent,
        max_examples=request.max_examples,
        max_length=request.max_length or MAX_LENGTH,
        bad_rows=request.bad_rows,
        over_length=request.over_length,
        seed=job.seed,
        n_epochs=resolved.n_epochs,
        max_steps=request.max_steps,
        batch_size=resolved.batch_size,
        learning_rate=resolved.learning_rate,
        schedule=request.schedule,
        warmup_ratio=WARMUP_RATIO if request.warmup_ratio is None else request.warmup_ratio,
        weight_decay=request.weight_decay,
        max_grad_norm=request.max_grad_norm or MAX_GRAD_NORM,
        lora=request.lora,
        gradient_checkpointing=request.gradient_checkpointing,
        precision=request.precision,
        evaluate_every=request.evaluate_every or max(1, steps // 10),
        early_stopping=request.early_stopping,
        checkpoint_every=request.checkpoint_every or min(steps_per_epoch, 50),
        keep_checkpoints=request.keep_checkpoints or keep,
        cpus=cpus,
        integrations=request.integrations,
    )


def _data_file(file: File) -> DataFile:
    return DataFile(id=file.id, filename=file.filename, key=file.key, sha256=file.sha256)
