"""What a job starts from: a base model of the catalogue, a tuned model, or a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.api.services import Services
from tunesmith.artifacts.adapters import adapter_shape
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.errors import ArtifactMissingError, InvalidRequestError, NotFoundError
from tunesmith.domain.models import StartingPoint, TunedModel, WholeModel
from tunesmith.domain.spec import RANKED, LoraSpec, Method
from tunesmith.protocol.jobs import CreateJob
from tunesmith.protocol.opea_create import OpeaCreateJob
from tunesmith.protocol.reading import shortened

_RESUMED = "General.resume_from_checkpoint"

_MOST_CHECKPOINTS = 10_000
"""Most checkpoints of a job that are searched; a run keeps far fewer."""


@dataclass(frozen=True)
class Start:
    """The tuned model or checkpoint that a job tunes on."""

    point: StartingPoint
    """Where it is, and what it was tuned from."""
    shape: LoraSpec | None
    """The shape of its adapter, which the job's own keeps; `None` where it is a whole model."""
    method: Method
    """How it was tuned."""
    key: str
    """The key of the request that names it."""

    def check(self, method: Method) -> None:
        """Raise `InvalidRequestError` if a job that tunes by `method` has no use for it.

        A model of another kind has other layers on top, and its adapter other names. From a whole
        model, vectors and scores can be learnt whatever it was tuned for.
        """
        if self.shape is None and method in RANKED:
            return
        if _kind(method) != _kind(self.method):
            raise InvalidRequestError(
                f"'{self.point.name}' was tuned by '{self.method}', and a job by '{method}' needs "
                f"another kind of model. Start from its base model '{self.point.base}', or tune it "
                f"by '{self.method}'.",
                param=self.key,
            )


def _kind(method: Method) -> Method | None:
    """Return what tells kinds of models apart: one each for vectors and scores, else texts."""
    return method if method in RANKED else None


def find_start(services: Services, wanted: CreateJob | OpeaCreateJob) -> Start | None:
    """Return what the job `wanted` starts from; `None` for a base model itself.

    Raises `NotFoundError` for a model that is not there, `ConflictError` for a
    checkpoint whose job has not ended, `InvalidRequestError` where two keys
    contradict each other.
    """
    resumed = wanted.to_resumed() if isinstance(wanted, OpeaCreateJob) else None
    if resumed is not None:
        job_id, step = resumed
        source = _resumed(services, job_id, step=step)
        if wanted.model != source.base:
            raise InvalidRequestError(
                f"'{_RESUMED}' was tuned from '{source.base}', but 'model' is "
                f"'{shortened(wanted.model)}'. Give the same model.",
                param="model",
            )
        return _start(services, source, key=_RESUMED)
    if wanted.model in services.catalogue:
        return None
    return _start(services, _named(services, wanted.model), key="model")


def _named(services: Services, name: str) -> TunedModel:
    try:
        return services.store.startable_model(name)
    except NotFoundError:
        kind = "tuned model or checkpoint" if name.startswith("ft:") else "model"
        raise _missing(services, f"The {kind} '{shortened(name)}' does not exist.") from None


def _resumed(services: Services, job_id: str, *, step: int | None) -> TunedModel:
    """Return the result of a job, or its checkpoint at `step`."""
    try:
        name = services.store.job(job_id).fine_tuned_model
        if step is not None:
            page = services.store.list_checkpoints(job_id, after=None, limit=_MOST_CHECKPOINTS)
            name = next((each.model for each in page.items if each.step == step), None)
        if name is not None:
            return services.store.startable_model(name)
    except NotFoundError:
        pass
    raise NotFoundError(
        f"'{_RESUMED}' names nothing that is there; give a path that the job's list of "
        "checkpoints shows.",
        param=_RESUMED,
        code="model_not_found",
    )


def _start(services: Services, source: TunedModel, *, key: str) -> Start:
    if source.base not in services.catalogue:
        message = f"'{source.name}' was tuned from '{source.base}', which is no longer offered."
        raise _missing(services, message, key=key)
    try:
        made_by = RunDirectory(services.artifacts, source.job_id).read_spec()
        shape = _shape(services, source, lora=made_by.lora)
    except ArtifactMissingError:
        message = f"What was tuned of '{source.name}' is no longer there."
        raise _missing(services, message, key=key) from None
    if shape is None:
        whole = WholeModel(name=source.name, key=source.key)
        point = StartingPoint(name=source.name, base=source.base, key=None, beneath=whole)
    else:
        point = StartingPoint(
            name=source.name, base=source.base, key=source.key, beneath=made_by.beneath
        )
    return Start(point, shape, made_by.method, key)


def _shape(services: Services, source: TunedModel, *, lora: LoraSpec | None) -> LoraSpec | None:
    """Return the shape of the adapter `source`; `None` where it is a whole model.

    What its config does not tell is in `lora`, which the run that made it was told. Raises
    `ArtifactMissingError`.
    """
    if lora is None:
        services.artifacts.get(f"{source.key}/config.json")
        return None
    shape = adapter_shape(services.artifacts, source.key)
    kept = {"also_train": lora.also_train, "quantized": lora.quantized}
    return shape.model_copy(update=kept)


def _missing(services: Services, message: str, *, key: str = "model") -> NotFoundError:
    known = ", ".join(f"'{model}'" for model in sorted(services.catalogue)) or "none"
    return NotFoundError(
        f"{message} The base models are: {known}.", param=key, code="model_not_found"
    )
