"""The rules by which each value that a request leaves open is closed, once.

| value | rule |
|---|---|
| those that clients see, `max_length` | as `tunesmith.domain.hyperparameters` states |
| `preference` | DPO's own loss, for pairs alone |
| `think` | `THINK_MARKS` |
| `checkpoint_every` | one epoch, at most 50 steps; `WINDOW_STEPS` in pretraining |
| `warmup_ratio` | `WARMUP_RATIO` of the steps |
| `max_grad_norm` | `MAX_GRAD_NORM` |
| `evaluate_every` | every tenth of the run; in pretraining no fewer than `WINDOW_STEPS` |
| `workers` | as many as find a place, from the fewest to the most that are asked for |
| `cpus` | as many for each worker as let all find a place: for one, all of the largest node |
| `cpus` on another device | the same, but no more than a node's divided by its devices |
| `ranking` | for the methods of `RANKED` its defaults; for others none |
| `integrations` | those asked for, then those that the operator has for every job |
"""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.cluster.protocol import CPU, MEMORY, Node, Resources
from tunesmith.controller.places import Grant, Places
from tunesmith.controller.room import Demand, Room
from tunesmith.domain.devices import Device
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.files import File
from tunesmith.domain.hyperparameters import (
    MAX_LENGTH,
    optimizer_steps,
    resolve_preference,
    steps_per_epoch,
)
from tunesmith.domain.ids import tuned_model_name
from tunesmith.domain.jobs import Job
from tunesmith.domain.models import CatalogueEntry
from tunesmith.domain.resolved import ResolvedTuning
from tunesmith.domain.spec import (
    RANKED,
    THINK_MARKS,
    DataFile,
    JobRequest,
    Method,
    RankingSpec,
    TrainSpec,
)
from tunesmith.domain.tracking import NOT_TRACKED, Tracking

WARMUP_RATIO = 0.05
"""Share of the steps over which the learning rate rises."""
MAX_GRAD_NORM = 1.0
"""Gradients are scaled down to this norm."""
WINDOW_STEPS = 50
"""Steps between checkpoints in pretraining, whose texts may make many more steps than is known."""


def resolve_grant(request: JobRequest, resources: Resources, *, had: int | None = None) -> Grant:
    """Return what the job gets of a cluster that is free.

    Nodes that may be added count where those that are there have no place for it. `had` are the
    processors that each worker had in an earlier attempt. Raises `InvalidRequestError` if no node
    has the device, or so many processors as a worker needs, or none of these the memory, or if not
    all of the fewest workers find a place.
    """
    device = request.device
    coming = [node for each in resources.coming for node in each.nodes]
    places, possible = Places(resources.nodes, coming=coming), (*resources.nodes, *coming)
    nodes = [node for node in possible if node.total.get(device.resource or CPU, 0.0) >= 1]
    if not nodes and possible and device.resource is not None:
        raise _no_device(device, possible)
    granted = places.grant(request, had=had)
    least = granted.cpus if granted else request.cpus or 1
    largest = Places(possible).on(device).largest
    if least > largest:
        beside = "" if device.resource is None else f" beside a {device.resource}"
        raise InvalidRequestError(
            f"No node of the cluster has {least} CPUs{beside}; the largest has {largest}. "
            "Ask for fewer, or leave it open to have as many as there are.",
            param="cpus",
        )
    roomy = (node.total.get(MEMORY, 0.0) for node in nodes if node.cpus >= least)
    most = max(roomy, default=0.0)
    if request.memory is not None and request.memory > most:
        raise InvalidRequestError(
            f"No node of the cluster has {request.memory} bytes of memory for tasks beside {least} "
            f"CPUs; the largest has {most:.0f}. Ask for less, or leave it open to claim none.",
            param="memory",
        )
    room = Room.whole(possible)
    if granted is None or room.placement(Demand.of(granted, request)) is None:
        memory = f" and {request.memory} bytes of memory" if request.memory else ""
        one = "" if device.resource is None else f" and one {device.resource}"
        raise InvalidRequestError(
            f"The cluster has no room for {request.fewest_workers} workers of {least} CPUs{one}"
            f"{memory} each. Ask for fewer workers, or for less for each.",
            param="workers",
        )
    return granted


def _no_device(device: Device, nodes: Sequence[Node]) -> InvalidRequestError:
    largest = max(nodes, key=lambda node: node.cpus)
    has = ", ".join(
        f"{amount:g} {name}" for name, amount in sorted(largest.total.items()) if name != MEMORY
    )
    return InvalidRequestError(
        f"No node of the cluster has a {device.resource}, which device '{device}' needs; the "
        f"largest has {has}. Choose another device, or add a node that has one.",
        param="device",
    )


def resolve_spec(
    job: Job,
    *,
    entry: CatalogueEntry,
    files: tuple[File, File | None],
    cpus: int,
    keep: int,
    tracking: Tracking = NOT_TRACKED,
) -> TrainSpec:
    """Freeze everything that decides the run's result.

    `job` has its hyperparameters resolved, `files` are its training and
    validation file, `keep` is how many checkpoints are kept, `tracking` where runs are shown.
    """
    request, resolved = job.request, job.resolved
    if resolved is None:
        raise ValueError(f"Job '{job.id}' has not been validated.")
    training, validation = files
    epoch = steps_per_epoch(resolved.examples, resolved.batch_size)
    windows = request.method is Method.PRETRAINING
    steps = optimizer_steps(resolved, max_steps=request.max_steps)
    return TrainSpec(
        job_id=job.id,
        tuned_model=tuned_model_name(
            base=job.base, organization=job.organization, suffix=request.suffix, job_id=job.id
        ),
        base_model=entry,
        beneath=job.start_from.beneath if job.start_from else None,
        start_from=job.start_from.key if job.start_from else None,
        method=request.method,
        beta=resolved.beta,
        preference=resolve_preference(request),
        think=request.think or THINK_MARKS,
        ranking=(request.ranking or RankingSpec()) if request.method in RANKED else None,
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
        max_seconds=request.max_seconds,
        batch_size=resolved.batch_size,
        learning_rate=resolved.learning_rate,
        schedule=request.schedule,
        warmup_ratio=WARMUP_RATIO if request.warmup_ratio is None else request.warmup_ratio,
        optimizer=request.optimizer,
        weight_decay=request.weight_decay,
        max_grad_norm=request.max_grad_norm or MAX_GRAD_NORM,
        lora=request.lora,
        gradient_checkpointing=request.gradient_checkpointing,
        precision=request.precision,
        evaluate_every=request.evaluate_every or max(WINDOW_STEPS if windows else 1, steps // 10),
        early_stopping=request.early_stopping,
        gate=request.gate,
        verdict=request.verdict,
        checkpoint_every=request.checkpoint_every or (WINDOW_STEPS if windows else min(epoch, 50)),
        keep_checkpoints=request.keep_checkpoints or keep,
        device=request.device,
        cpus=cpus,
        memory=request.memory,
        workers=request.workers,
        integrations=tracking.integrations(request.integrations),
    )


def resolved_tuning(spec: TrainSpec) -> ResolvedTuning:
    """Return what clients are shown of the values that `spec` closed."""
    return ResolvedTuning(**spec.model_dump(include=set(ResolvedTuning.model_fields)))


def _data_file(file: File) -> DataFile:
    return DataFile(id=file.id, filename=file.filename, key=file.key, sha256=file.sha256)
