"""Turn a request for a job into the job that is stored, or refuse it."""

from __future__ import annotations

import secrets

from tunesmith.api.services import Services
from tunesmith.api.starting import find_start
from tunesmith.domain.errors import InvalidRequestError, NotFoundError
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.ids import Dialect, new_job_id
from tunesmith.domain.jobs import Job, JobStatus
from tunesmith.domain.spec import JobRequest
from tunesmith.protocol.jobs import CreateJob
from tunesmith.protocol.opea_create import OpeaCreateJob
from tunesmith.protocol.reading import shortened
from tunesmith.store.protocol import Store
from tunesmith.tracing import traceparent


def new_job(services: Services, wanted: CreateJob | OpeaCreateJob) -> Job:
    """Return a fresh job for what is `wanted`; it is not stored yet.

    Raises `InvalidRequestError`, `NotFoundError` or `ConflictError` that names
    the key at fault, and `DiskFullError` where its disk has no room for what is new.
    """
    services.disk.check()
    start = find_start(services, wanted)
    request = wanted.to_request(start.shape if start else None, device=services.device)
    if start is not None:
        start.check(request.method)
    training, validation = _files(services.store, wanted)
    if validation and validation.id == training.id:
        raise InvalidRequestError(
            "'validation_file' is the training file itself; give another file, or none.",
            param="validation_file",
        )
    job = _job(services, wanted, request=request, files=(training, validation))
    return job.model_copy(update={"start_from": start.point}) if start else job


def _job(
    services: Services,
    wanted: CreateJob | OpeaCreateJob,
    *,
    request: JobRequest,
    files: tuple[File, File | None],
) -> Job:
    dialect = Dialect.OPEA if isinstance(wanted, OpeaCreateJob) else Dialect.OPENAI
    training, validation = files
    return Job(
        id=new_job_id(dialect),
        dialect=dialect,
        created_at=services.now(),
        status=JobStatus.VALIDATING_FILES,
        model=wanted.model,
        training_file=training.id,
        training_filename=training.filename,
        validation_file=validation.id if validation else None,
        validation_filename=validation.filename if validation else None,
        request=request,
        seed=secrets.randbelow(2**31) if wanted.seed is None else wanted.seed,
        organization=services.organization,
        traceparent=traceparent(),
    )


def _files(store: Store, wanted: CreateJob | OpeaCreateJob) -> tuple[File, File | None]:
    """Return the training file and the validation file, if there is one."""
    if isinstance(wanted, OpeaCreateJob):
        name = wanted.to_validation_name()
        training = _named(store, "training_file", name=wanted.training_file)
        return training, None if name is None else _named(store, "validation_file", name=name)
    file_id = wanted.validation_file
    training = _identified(store, "training_file", file_id=wanted.training_file)
    if file_id is None:
        return training, None
    return training, _identified(store, "validation_file", file_id=file_id)


def _identified(store: Store, key: str, *, file_id: str) -> File:
    try:
        file = store.file(file_id)
    except NotFoundError:
        raise NotFoundError(
            f"No such File object: {shortened(file_id)}; it may have expired. Upload the file with "
            f"purpose 'fine-tune' and give its id as '{key}'.",
            param=key,
        ) from None
    _check_purpose(file, key, called=f"The file '{file.id}'")
    return file


def _named(store: Store, key: str, *, name: str) -> File:
    try:
        file = store.newest_file_named(name)
    except NotFoundError:
        kind = "Training" if key == "training_file" else "Validation"
        raise NotFoundError(f"{kind} file '{shortened(name)}' not found!", param=key) from None
    _check_purpose(file, key, called=f"The newest file named '{shortened(name)}'")
    return file


def _check_purpose(file: File, key: str, *, called: str) -> None:
    """Raise `InvalidRequestError` unless `file`, `called` so in the message, is to learn from."""
    if file.purpose is not Purpose.FINE_TUNE:
        raise InvalidRequestError(
            f"{called} has the purpose '{file.purpose}'; '{key}' takes one that was uploaded with "
            "purpose 'fine-tune'. Upload it again with that purpose.",
            param=key,
        )
