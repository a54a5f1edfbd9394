"""The objects of OPEA's own routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field

from tunesmith.domain.events import Checkpoint
from tunesmith.domain.jobs import Job, JobStatus
from tunesmith.protocol.events import CheckpointMetrics
from tunesmith.protocol.hyperparameters import HyperparametersObject
from tunesmith.protocol.integrations import IntegrationObject, integrations_to_wire
from tunesmith.protocol.jobs import JobErrorObject, Status
from tunesmith.protocol.wire import Wire

OpeaStatus = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
"""Where a job stands, in OPEA's words, which have none for a paused one."""


class OpeaJobId(Wire):
    """The body of OPEA's own routes."""

    fine_tuning_job_id: str
    """`ft-job-<uuid>` or `ftjob-…`."""


class OpeaJobObject(Wire):
    """OPEA's `FineTuningJob`, with its keys in OPEA's order, and filled."""

    id: str
    """`ft-job-<uuid>`, or `ftjob-…` if it was created in OpenAI's dialect."""
    created_at: int
    """Unix seconds."""
    error: JobErrorObject | None
    """Why it failed."""
    fine_tuned_model: str | None
    """The tuned model's name, once succeeded."""
    finished_at: int | None
    """Unix seconds at which it ended."""
    hyperparameters: HyperparametersObject
    """The hyperparameters; `learning_rate_multiplier` carries the absolute learning rate."""
    model: str
    """Name of the model that is tuned, as the request gave it."""
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    """Tells the kinds of objects apart."""
    organization_id: str
    """The third part of the tuned model's name."""
    result_files: list[str]
    """File ids of the metrics tables."""
    status: OpeaStatus
    """Where it stands; a paused job is shown as `queued`."""
    trained_tokens: int | None
    """Tokens that went through training, known at the end."""
    training_file: str
    """The file's name."""
    validation_file: str | None
    """The file's name."""
    integrations: list[IntegrationObject] | None
    """The services that are told of the run's metrics, or null."""
    seed: int
    """The seed in use."""
    estimated_finish: int | None
    """Unix seconds at which it should end."""

    @classmethod
    def to_wire(cls, job: Job) -> Self:
        """Return `job` as OPEA's clients see it."""
        return cls(
            id=job.id,
            created_at=job.created_at,
            error=JobErrorObject.to_wire(job),
            fine_tuned_model=job.fine_tuned_model,
            finished_at=job.finished_at,
            hyperparameters=HyperparametersObject.to_opea(job),
            model=job.model,
            organization_id=job.organization,
            result_files=list(job.result_files),
            status=_status(job),
            trained_tokens=job.trained_tokens,
            training_file=job.training_filename,
            validation_file=job.validation_filename,
            integrations=integrations_to_wire(job.request.integrations) or None,
            seed=job.seed,
            estimated_finish=job.estimated_finish,
        )


def _status(job: Job) -> OpeaStatus:
    status: Status = job.status.value
    return "queued" if status == "paused" else status


class OpeaCheckpoint(Wire):
    """OPEA's `FineTuningJobCheckpoint`, with its keys in OPEA's order."""

    id: str
    """`ftckpt_…` as in OpenAI's dialect, or `ftckpt-…` for the final result."""
    created_at: int
    """Unix seconds."""
    fine_tuned_model_checkpoint: str
    """`output/<job id>/checkpoint-<N>`, or `output/<job id>` for the final result."""
    fine_tuning_job_id: str
    """The job that it belongs to."""
    metrics: CheckpointMetrics
    """The numbers at its step."""
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    """Tells the kinds of objects apart."""
    step_number: int | None
    """Optimizer step at which it was saved; null for the final result."""

    @classmethod
    def list_to_wire(cls, job: Job, checkpoints: Sequence[Checkpoint]) -> list[Self]:
        """Return the checkpoints of `job`, newest first, with its final result before them.

        The final result is there once the job has succeeded, for as long as the
        checkpoint at its last step is kept. It has an id of its own, made of
        the job's, so that it is the same in each answer.
        """
        saved = [cls._to_wire(checkpoint) for checkpoint in checkpoints]
        if job.status is not JobStatus.SUCCEEDED or not saved:
            return saved
        final = {
            "id": f"ftckpt-{job.id.removeprefix('ft-job-').removeprefix('ftjob-')}",
            "fine_tuned_model_checkpoint": f"output/{job.id}",
            "step_number": None,
        }
        return [saved[0].model_copy(update=final), *saved]

    @classmethod
    def _to_wire(cls, checkpoint: Checkpoint) -> Self:
        return cls(
            id=checkpoint.id,
            created_at=checkpoint.created_at,
            fine_tuned_model_checkpoint=f"output/{checkpoint.job_id}/checkpoint-{checkpoint.step}",
            fine_tuning_job_id=checkpoint.job_id,
            metrics=CheckpointMetrics.to_wire(checkpoint.metrics),
            step_number=checkpoint.step,
        )


class OpeaHealth(Wire):
    """OPEA's health check; its keys have spaces."""

    title: str = Field(serialization_alias="Service Title")
    """Name of the service."""
    version: str = Field(serialization_alias="Version")
    """Version of the service."""
    description: str = Field(serialization_alias="Service Description")
    """What the service is."""
