"""OpenAI's fine-tuning job: the request that creates one, and the object that shows one."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field

from tunesmith.domain.jobs import Job, JobError
from tunesmith.domain.spec import JobRequest
from tunesmith.protocol.hyperparameters import (
    HyperparametersObject,
    HyperparametersRequest,
    Number,
    Seed,
    Suffix,
    agreed,
    check_suffix,
)
from tunesmith.protocol.wire import Wire, only

Status = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
"""Where a job stands."""

_SUPERVISED_ONLY = "this version tunes by method 'supervised' only; use that"


class SupervisedRequest(Wire):
    """Supervised fine-tuning."""

    hyperparameters: HyperparametersRequest = HyperparametersRequest()
    """Its hyperparameters; each is `"auto"` by default."""


class MethodRequest(Wire):
    """How to tune."""

    type: Annotated[
        Literal["supervised", "dpo", "reinforcement"],
        only("supervised", mend=_SUPERVISED_ONLY),
    ]
    """The method; `supervised` only."""
    supervised: SupervisedRequest = SupervisedRequest()
    """Settings of the supervised method."""
    dpo: Annotated[dict[str, Any] | None, only(None, mend=_SUPERVISED_ONLY)] = None
    """Settings of another method; null only."""
    reinforcement: Annotated[dict[str, Any] | None, only(None, mend=_SUPERVISED_ONLY)] = None
    """Settings of another method; null only."""


class CreateJob(Wire):
    """OpenAI's `CreateFineTuningJobRequest`."""

    model: str
    """Name of a base model of the catalogue."""
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
    integrations: Annotated[
        list[dict[str, Any]] | None,
        only(None, [], mend="this version has no integrations; leave the key out"),
    ] = None
    """Null or empty only."""
    hyperparameters: HyperparametersRequest | None = None
    """The older place of the hyperparameters; must not contradict `method`."""
    method: MethodRequest | None = None
    """How to tune; supervised if null."""

    def to_request(self) -> JobRequest:
        """Return what is asked for in domain terms.

        Raises `InvalidRequestError` where two keys contradict each other, or the
        suffix cannot be a part of a name.
        """
        check_suffix(self.suffix)
        old = self.hyperparameters or HyperparametersRequest()
        new = self.method.supervised.hyperparameters if self.method else HyperparametersRequest()
        return JobRequest(
            n_epochs=agreed(*_two_places("n_epochs", old=old.n_epochs, new=new.n_epochs)),
            batch_size=agreed(*_two_places("batch_size", old=old.batch_size, new=new.batch_size)),
            learning_rate_multiplier=agreed(
                *_two_places(
                    "learning_rate_multiplier",
                    old=old.learning_rate_multiplier,
                    new=new.learning_rate_multiplier,
                )
            ),
            suffix=self.suffix,
            metadata=self.metadata,
        )


class JobErrorObject(Wire):
    """Why a job failed."""

    code: str
    """A stable code; `docs/reference/errors.md` explains each."""
    message: str
    """What went wrong, where, and the mend."""
    param: str | None
    """The request's field at fault, where there is one."""

    @classmethod
    def to_wire(cls, error: JobError | None) -> Self | None:
        """Return `error` as clients see it."""
        if error is None:
            return None
        return cls(code=error.code.value, message=error.message, param=error.param)


class SupervisedObject(Wire):
    """Supervised fine-tuning, as a job was tuned."""

    hyperparameters: HyperparametersObject
    """Its hyperparameters."""


class MethodObject(Wire):
    """How a job was tuned."""

    type: Literal["supervised"] = "supervised"
    """The method."""
    supervised: SupervisedObject
    """Settings of the method."""


class JobObject(Wire):
    """OpenAI's `FineTuningJob`."""

    id: str
    """`ftjob-…`, or `ft-job-<uuid>` if it was created in OPEA's dialect."""
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    """Tells the kinds of objects apart."""
    created_at: int
    """Unix seconds."""
    error: JobErrorObject | None
    """Why it failed."""
    fine_tuned_model: str | None
    """The tuned model's name, once succeeded."""
    finished_at: int | None
    """Unix seconds at which it ended."""
    hyperparameters: HyperparametersObject
    """The hyperparameters."""
    model: str
    """Name of the base model."""
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
    integrations: list[dict[str, Any]]
    """Always empty."""
    seed: int
    """The seed in use."""
    estimated_finish: int | None
    """Unix seconds at which it should end."""
    method: MethodObject
    """How it is tuned."""
    metadata: dict[str, str] | None
    """The client's own labels."""
    user_provided_suffix: str | None
    """The suffix that the request gave."""

    @classmethod
    def to_wire(cls, job: Job) -> Self:
        """Return `job` as OpenAI's clients see it."""
        hyperparameters = HyperparametersObject.to_wire(job)
        return cls(
            id=job.id,
            created_at=job.created_at,
            error=JobErrorObject.to_wire(job.error),
            fine_tuned_model=job.fine_tuned_model,
            finished_at=job.finished_at,
            hyperparameters=hyperparameters,
            model=job.model,
            organization_id=job.organization,
            result_files=list(job.result_files),
            status=job.status.value,
            trained_tokens=job.trained_tokens,
            training_file=job.training_file,
            validation_file=job.validation_file,
            integrations=[],
            seed=job.seed,
            estimated_finish=job.estimated_finish,
            method=MethodObject(supervised=SupervisedObject(hyperparameters=hyperparameters)),
            metadata=job.request.metadata,
            user_provided_suffix=job.request.suffix,
        )


def _two_places(
    key: str, *, old: Number | None, new: Number | None
) -> tuple[tuple[str, Number | None], tuple[str, Number | None]]:
    """Name the two places where OpenAI's dialect takes the hyperparameter `key`."""
    return (f"hyperparameters.{key}", old), (f"method.supervised.hyperparameters.{key}", new)
