"""OpenAI's `method`: how a job tunes, as requests give and the job object shows it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.hyperparameters import has_reference
from tunesmith.domain.jobs import Job
from tunesmith.domain.spec import JobRequest, Method
from tunesmith.protocol.hyperparameters import (
    DpoHyperparametersObject,
    DpoHyperparametersRequest,
    HyperparametersObject,
    HyperparametersRequest,
    agreed,
)
from tunesmith.protocol.wire import Only, Wire

_SUPPORTED = "this version tunes by the methods 'supervised' and 'dpo'; use one of them"

AnyMethod = Literal["supervised", "dpo", "reasoning", "pretraining", "embedding", "rerank"]
"""OpenAI's methods and our own objectives, where both are given by one name."""


class SupervisedRequest(Wire):
    """Supervised fine-tuning."""

    hyperparameters: HyperparametersRequest = HyperparametersRequest()
    """Its hyperparameters; each is `"auto"` by default."""


class DpoRequest(Wire):
    """Tuning on pairs, by direct preference optimization or the loss of `tuning.preference`."""

    hyperparameters: DpoHyperparametersRequest = DpoHyperparametersRequest()
    """Its hyperparameters; each is `"auto"` by default."""


class MethodRequest(Wire):
    """How to tune."""

    type: Annotated[
        Literal["supervised", "dpo", "reinforcement"],
        Only("supervised", "dpo", mend=_SUPPORTED),
    ]
    """The method; `supervised` or `dpo`."""
    supervised: SupervisedRequest | None = None
    """Settings of the supervised method, or null."""
    dpo: DpoRequest | None = None
    """Settings of DPO, or null."""
    reinforcement: Annotated[dict[str, Any] | None, Only(None, mend=_SUPPORTED)] = None
    """Settings of a method that is not supported; null only."""


def asked_hyperparameters(
    method: MethodRequest | None, older: HyperparametersRequest | None
) -> dict[str, Any]:
    """Return the fields of `JobRequest` that `method` and its `older` place ask for.

    Raises `InvalidRequestError` where they contradict each other, or settings
    are given for a method that is not the job's.
    """
    if method is None or method.type == "supervised":
        return _supervised(method, older or HyperparametersRequest())
    if older is not None:
        raise InvalidRequestError(
            "'hyperparameters' belongs to the supervised method; give those of DPO as "
            "'method.dpo.hyperparameters'.",
            param="hyperparameters",
        )
    _check_silent("supervised", method.supervised, chosen="dpo")
    given = (method.dpo or DpoRequest()).hyperparameters
    return {"method": Method.DPO, **given.model_dump()}


def _supervised(method: MethodRequest | None, older: HyperparametersRequest) -> dict[str, Any]:
    newer = HyperparametersRequest()
    if method is not None:
        _check_silent("dpo", method.dpo, chosen="supervised")
        newer = (method.supervised or SupervisedRequest()).hyperparameters
    new, old = newer.model_dump(), older.model_dump()
    return {
        key: agreed(
            (f"hyperparameters.{key}", old[key]),
            (f"method.supervised.hyperparameters.{key}", new[key]),
        )
        for key in old
    }


def check_beta(request: JobRequest) -> None:
    """Raise `InvalidRequestError` if `request` gives a beta whose loss has no reference."""
    if request.beta is not None and not has_reference(request) and request.preference:
        loss = request.preference.loss
        raise InvalidRequestError(
            f"'method.dpo.hyperparameters.beta' holds the model to a reference, which the loss "
            f"'{loss}' does not have. Leave it out; the settings of '{loss}' are in "
            "'tuning.preference'.",
            param="method.dpo.hyperparameters.beta",
        )


def _check_silent(key: str, settings: Wire | None, *, chosen: str) -> None:
    if settings is not None:
        raise InvalidRequestError(
            f"'method.{key}' is given, but 'method.type' is '{chosen}'; leave the one out or "
            "change the other.",
            param=f"method.{key}",
        )


class SupervisedObject(Wire):
    """Supervised fine-tuning, as a job was tuned."""

    hyperparameters: HyperparametersObject
    """Its hyperparameters."""


class DpoObject(Wire):
    """Direct preference optimization, as a job was tuned."""

    hyperparameters: DpoHyperparametersObject
    """Its hyperparameters."""


class SupervisedMethod(Wire):
    """How a job is tuned that does not tune on pairs; `tuning.objective` says what it learns."""

    type: Literal["supervised"] = "supervised"
    """The method."""
    supervised: SupervisedObject
    """Settings of the method."""


class DpoMethod(Wire):
    """How a job of DPO is tuned."""

    type: Literal["dpo"] = "dpo"
    """The method."""
    dpo: DpoObject
    """Settings of the method."""


def method_to_wire(job: Job) -> SupervisedMethod | DpoMethod:
    """Return how `job` is tuned, with what each `"auto"` became once it is known."""
    if job.request.method is Method.DPO:
        return DpoMethod(dpo=DpoObject(hyperparameters=DpoHyperparametersObject.to_wire(job)))
    shown = HyperparametersObject.to_wire(job)
    return SupervisedMethod(supervised=SupervisedObject(hyperparameters=shown))
