"""OpenAI's fine-tuning job: the request that creates one, and the object that shows one."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field

from tunesmith.domain.devices import Device
from tunesmith.domain.jobs import Job
from tunesmith.domain.queue import Wait
from tunesmith.domain.spec import JobRequest, LoraSpec, Method
from tunesmith.protocol.adapters import check_head
from tunesmith.protocol.changes import change_to_wire, key_of
from tunesmith.protocol.hyperparameters import (
    HyperparametersObject,
    HyperparametersRequest,
    Seed,
    Suffix,
    check_suffix,
)
from tunesmith.protocol.integrations import (
    IntegrationObject,
    Integrations,
    asked_integrations,
    integrations_to_wire,
)
from tunesmith.protocol.methods import (
    DpoMethod,
    MethodRequest,
    SupervisedMethod,
    asked_hyperparameters,
    check_beta,
    method_to_wire,
)
from tunesmith.protocol.queue import QueueObject
from tunesmith.protocol.ranking import check_ranking
from tunesmith.protocol.tuning import TuningObject, TuningRequest
from tunesmith.protocol.verdicts import VerdictOutcomeObject
from tunesmith.protocol.wire import Wire

Status = Literal[
    "validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"
]
"""Where a job stands."""


class CreateJob(Wire):
    """OpenAI's `CreateFineTuningJobRequest`."""

    model: str
    """Name of a base model of the catalogue, or of a tuned model or checkpoint to go on from."""
    training_file: str
    """Id of a file with purpose `fine-tune`."""
    validation_file: str | None = None
    """Id of another such file, or null."""
    suffix: Suffix | None = None
    """1 to 64 characters for the tuned model's name, or null."""
    seed: Seed | None = None
    """0 to 2147483647; drawn at random if null."""
    metadata: (
        Annotated[
            dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
            Field(max_length=16),
        ]
        | None
    ) = None
    """Up to 16 labels, keys of up to 64 and values of up to 512 characters, or null."""
    integrations: Integrations = None
    """Up to five services that are told of the run's metrics, or null."""
    hyperparameters: HyperparametersRequest | None = None
    """The older place of the hyperparameters; must not contradict `method`."""
    method: MethodRequest | None = None
    """How to tune; supervised if null."""
    tuning: TuningRequest | None = None
    """Our own options, or null for their defaults; `docs/reference/tuning.md` explains each."""

    def to_request(
        self, source: LoraSpec | None = None, *, device: Device = Device.CPU
    ) -> JobRequest:
        """Return what is asked for in domain terms.

        `source` is the shape of the adapter that the job starts from, if it does; `device` is what
        is trained on where the request does not say it.
        Raises `InvalidRequestError` where two keys contradict each other, or the
        suffix cannot be a part of a name.
        """
        check_suffix(self.suffix)
        asked = asked_hyperparameters(self.method, self.hyperparameters)
        tuning = self.tuning or TuningRequest()
        method = tuning.to_method(asked.pop("method", Method.SUPERVISED))
        tuning.check(
            validation_file=self.validation_file is not None,
            multiplier=asked["learning_rate_multiplier"] is not None,
        )
        request = JobRequest(
            method=method,
            **asked,
            **tuning.asked(source, device=device),
            integrations=asked_integrations(self.integrations),
            suffix=self.suffix,
            metadata=self.metadata,
        )
        check_beta(request)
        place = "tuning.ranking"
        check_ranking(request, place=place, group_size=f"{place}.group_size")
        check_head(request)
        return request


class JobErrorObject(Wire):
    """Why a job failed."""

    code: str
    """A stable code; `docs/reference/errors.md` explains each."""
    message: str
    """What went wrong, where, and the mend."""
    param: str | None
    """The request's field at fault, where there is one."""

    @classmethod
    def to_wire(cls, job: Job) -> Self | None:
        """Return why `job` failed, if it did, with the field by its name in the job's dialect."""
        error = job.error
        if error is None:
            return None
        param = error.param and key_of(error.param, job.dialect)
        return cls(code=error.code.value, message=error.message, param=param)


class JobFailureObject(JobErrorObject):
    """Why a job failed, and what to send instead."""

    change: dict[str, Any] | None
    """Our own: a part of a request which, merged key by key over the one that was sent, should
    succeed; null where no change of the request helps."""

    @classmethod
    def to_wire(cls, job: Job) -> Self | None:
        """Return why `job` failed, if it did, with the change in OpenAI's shape."""
        why = JobErrorObject.to_wire(job)
        return None if why is None else cls(**why.model_dump(), change=change_to_wire(job))


class JobObject(Wire):
    """OpenAI's `FineTuningJob`."""

    id: str
    """`ftjob-…`, or `ft-job-<uuid>` if it was created in OPEA's dialect."""
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    """Tells the kinds of objects apart."""
    created_at: int
    """Unix seconds."""
    error: JobFailureObject | None
    """Why it failed, and what to send instead."""
    fine_tuned_model: str | None
    """The tuned model's name, once succeeded."""
    finished_at: int | None
    """Unix seconds at which it ended."""
    hyperparameters: HyperparametersObject | None
    """The hyperparameters; null for a job that tunes on pairs, which shows them in `method`."""
    model: str
    """Name of the model that is tuned, as the request gave it."""
    organization_id: str
    """The third part of the tuned model's name."""
    result_files: list[str]
    """File ids of the metrics tables."""
    status: Status
    """Where it stands."""
    trained_tokens: int | None
    """Tokens that went through training, known at the end."""
    training_file: str
    """File id."""
    validation_file: str | None
    """File id."""
    integrations: list[IntegrationObject]
    """The services that are told of the run's metrics."""
    seed: int
    """The seed in use."""
    estimated_finish: int | None
    """Unix seconds at which it should end."""
    method: SupervisedMethod | DpoMethod
    """How it is tuned."""
    tuning: TuningObject
    """Our own options, with the values of those that were left open once they are known."""
    metadata: dict[str, str] | None
    """The client's own labels."""
    user_provided_suffix: str | None
    """The suffix that the request gave."""
    queue: QueueObject | None
    """Our own: why a job waits that is to be launched; null for any other."""
    verdict: VerdictOutcomeObject | None
    """Our own: how its result compares with what it started from; null until that is known, and
    where nothing is held out."""

    @classmethod
    def to_wire(cls, job: Job, wait: Wait | None = None) -> Self:
        """Return `job` as OpenAI's clients see it, with why it waits, where that was told."""
        supervised = job.request.method is not Method.DPO
        return cls(
            id=job.id,
            created_at=job.created_at,
            error=JobFailureObject.to_wire(job),
            fine_tuned_model=job.fine_tuned_model,
            finished_at=job.finished_at,
            hyperparameters=HyperparametersObject.to_wire(job) if supervised else None,
            model=job.model,
            organization_id=job.organization,
            result_files=list(job.result_files),
            status=job.status.value,
            trained_tokens=job.trained_tokens,
            training_file=job.training_file,
            validation_file=job.validation_file,
            integrations=integrations_to_wire(job.request.integrations),
            seed=job.seed,
            estimated_finish=job.estimated_finish,
            method=method_to_wire(job),
            tuning=TuningObject.to_wire(job),
            metadata=job.request.metadata,
            user_provided_suffix=job.request.suffix,
            queue=QueueObject.to_wire(job, wait),
            verdict=VerdictOutcomeObject.to_wire(job),
        )
