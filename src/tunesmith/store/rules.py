"""The rules that every store keeps, as pure functions of values; the stores only read and write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tunesmith.domain.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    QuotaError,
    StaleJobError,
)
from tunesmith.domain.events import Checkpoint, Event, EventLevel, EventType, RunEvent
from tunesmith.domain.files import File
from tunesmith.domain.ids import new_event_id
from tunesmith.domain.jobs import Job, JobChange, JobStatus, apply_change
from tunesmith.domain.models import TunedModel
from tunesmith.domain.uploads import Upload, UploadPart, UploadStatus

MOST_ENDPOINTS = 20
"""Webhook endpoints that a project may have."""

_HINTS = {
    JobStatus.VALIDATING_FILES: "Its files are still being checked; pause it once it is queued.",
    JobStatus.PAUSED: "It is paused already.",
}
"""What a job that cannot be paused is told; one that has ended is told so."""

UNFINISHED = tuple(status for status in JobStatus if not status.terminal)
"""The statuses of a job that has not ended."""

BYTE_PATIENCE = 3600
"""Seconds after which a project at its limit of bytes is told to try again."""

JOB_PATIENCE = 60
"""Seconds after which a project at its limit of jobs is told to try again."""


def check_seen(job: Job, seen: Job) -> None:
    """Raise `StaleJobError` unless `job` stands where the caller has seen it.

    That is its status, its attempt, and whether that attempt is to end: a job that
    was paused and resumed meanwhile has the same status and attempt.
    """
    if (job.status, job.attempt, job.stopping) != (seen.status, seen.attempt, seen.stopping):
        raise StaleJobError(
            f"Job '{job.id}' is {job.status} in attempt {job.attempt} by now; "
            f"it was {seen.status} in attempt {seen.attempt} when it was read."
        )


def changed(job: Job, change: JobChange, *, now: int) -> Job:
    """Return `job` after `change` at the unix second `now`.

    Only an ended job has a `finished_at`, which is `now` unless `change` names
    one, only a running job has an `estimated_finish` and a time at which it began,
    and only an attempt that may be alive is to end. Raises what `apply_change` raises.
    """
    after = apply_change(job, change)
    running = after.status is JobStatus.RUNNING
    ran = job.began_at is not None and not running
    derived = {
        "finished_at": (after.finished_at or now) if after.status.terminal else None,
        "estimated_finish": after.estimated_finish if running else None,
        "began_at": (job.began_at or now) if running else None,
        "run_seconds": job.run_seconds + max(now - (job.began_at or now), 0) * ran,
        "stopping": after.stopping and after.submission_open,
    }
    return after.model_copy(update=derived)


def pausing(job: Job) -> JobChange:
    """Return the change that pauses `job`; an attempt that it has on the cluster is to end.

    Raises `ConflictError` with code `job_not_pausable` unless it is queued or running.
    """
    if job.status in (JobStatus.QUEUED, JobStatus.RUNNING):
        return JobChange(status=JobStatus.PAUSED, stopping=job.submission_open)
    raise ConflictError(
        f"Job '{job.id}' is {job.status}, and only a queued or running job can be paused. "
        + _HINTS.get(job.status, "It has ended."),
        param="fine_tuning_job_id",
        code="job_not_pausable",
    )


def resuming(job: Job) -> JobChange:
    """Return the change that puts the paused `job` back into the queue.

    Raises `ConflictError` with code `job_not_paused` for any other one.
    """
    if job.status is JobStatus.PAUSED:
        return JobChange(status=JobStatus.QUEUED)
    raise ConflictError(
        f"Job '{job.id}' is {job.status}, and only a paused job can be resumed.",
        param="fine_tuning_job_id",
        code="job_not_paused",
    )


def finishing(change: JobChange, model: TunedModel, *, results: File) -> JobChange:
    """Return `change` with all that success adds: status, the model's name, the results' id."""
    success = {
        "status": JobStatus.SUCCEEDED,
        "fine_tuned_model": model.name,
        "result_files": (results.id,),
    }
    return change.model_copy(update=success)


def new_event(job_id: str, message: str, *, at: int, level: EventLevel = EventLevel.INFO) -> Event:
    """Return a new event of type `message`; `at` is in unix seconds."""
    return Event(
        id=new_event_id(),
        job_id=job_id,
        created_at=at,
        level=level,
        type=EventType.MESSAGE,
        message=message,
    )


def creation_event(job: Job) -> Event:
    """Return the first event of a job."""
    return new_event(job.id, f"Created fine-tuning job: {job.id}", at=job.created_at)


def change_events(
    job_id: str, change: JobChange, *, message: str | None, level: EventLevel, at: int
) -> list[Event]:
    """Return the event of `change`, dated `at` in unix seconds.

    Without a `message` there is none, except that no change of status goes without its event.
    """
    if message is None and change.status is not None:
        message = f"The job is now {change.status}"
    return [new_event(job_id, message, at=at, level=level)] if message is not None else []


def cancellation_event(job_id: str, *, at: int) -> Event:
    """Return the event of a cancellation; `at` is in unix seconds."""
    return new_event(job_id, "Fine-tuning job cancelled", at=at)


def pause_event(job_id: str, *, at: int) -> Event:
    """Return the event of a pause; `at` is in unix seconds."""
    return new_event(job_id, "Fine-tuning job paused", at=at)


def resume_event(job_id: str, *, at: int) -> Event:
    """Return the event of a resumption; `at` is in unix seconds."""
    return new_event(job_id, "Fine-tuning job resumed, moving job to queued state", at=at)


def finish_events(job_id: str, model: TunedModel, *, at: int) -> list[Event]:
    """Return the two events of a success, in their order; `at` is in unix seconds."""
    return [
        new_event(job_id, f"New fine-tuned model created: {model.name}", at=at),
        new_event(job_id, "The job has successfully completed", at=at),
    ]


def ingested(job: Job, run_events: Iterable[RunEvent]) -> tuple[Job, list[Event]]:
    """Return `job` with the run's events taken in, and the events that clients will see.

    Run events up to `job.run_events_seen` were taken in before and are passed
    over. The newest metrics give a running job its `estimated_finish`.
    """
    fresh = [event for event in run_events if event.number > job.run_events_seen]
    if not fresh:
        return job, []
    seen: dict[str, int] = {"run_events_seen": fresh[-1].number}
    measured = [(event.created_at, event.metrics) for event in fresh if event.metrics]
    if measured and job.status is JobStatus.RUNNING:
        created_at, metrics = measured[-1]
        seen["estimated_finish"] = created_at + round(metrics.seconds_left)
    shown = [_shown(job.id, event) for event in fresh if not _only_outcome(event)]
    return job.model_copy(update=seen), shown


def told_all(job: Job) -> bool:
    """Tell whether no event of `job` will follow those that there are.

    A cancelled job's attempt may still tell of its last steps until it has been let go.
    """
    return job.status.terminal and not (job.status is JobStatus.CANCELLED and job.submission_open)


def new_checkpoints(
    known_steps: Iterable[int], checkpoints: Iterable[Checkpoint]
) -> list[Checkpoint]:
    """Return the checkpoints, one a step, at steps that are not among `known_steps`."""
    known = set(known_steps)
    fresh = {new.step: new for new in checkpoints if new.step not in known}
    return list(fresh.values())


def _only_outcome(event: RunEvent) -> bool:
    return event.outcome is not None and event.metrics is None and event.checkpoint is None


def _shown(job_id: str, event: RunEvent) -> Event:
    numbers = event.metrics.model_dump(exclude_none=True) if event.metrics else {}
    return Event(
        id=new_event_id(),
        job_id=job_id,
        created_at=event.created_at,
        level=event.level,
        type=EventType.METRICS if event.metrics else EventType.MESSAGE,
        message=event.message,
        data={**numbers, **(event.data or {})} or None,
    )


def check_bytes(stored: int, size: int, *, limit: int) -> None:
    """Raise `QuotaError` unless a project with `stored` bytes has room for `size` more."""
    if stored + size <= limit:
        return
    raise QuotaError(
        f"The project's files and pending uploads have {stored} bytes; with {size} more they "
        f"would exceed the {limit} that are allowed (limit 'max_bytes'). Delete files or cancel "
        "uploads, or have the operator raise the limit with `tunesmith projects set`.",
        retry_after=BYTE_PATIENCE,
    )


def check_job_limit(unfinished: int, *, limit: int) -> None:
    """Raise `QuotaError` unless a project with `unfinished` jobs may have one more."""
    if unfinished < limit:
        return
    raise QuotaError(
        f"The project has {unfinished} jobs that have not ended, and at most {limit} are "
        "allowed (limit 'max_jobs'). Wait until one has ended, cancel one, or have the operator "
        "raise the limit with `tunesmith projects set`.",
        retry_after=JOB_PATIENCE,
    )


def check_endpoint_limit(count: int) -> None:
    """Raise `QuotaError` unless a project with `count` webhook endpoints may have one more."""
    if count >= MOST_ENDPOINTS:
        raise QuotaError(
            f"The project has {count} webhook endpoints, which is as many as there may be. "
            "Delete one that is not needed.",
            retry_after=JOB_PATIENCE,
        )


def no_endpoint(endpoint_id: str) -> NotFoundError:
    """Return the error for an unknown webhook endpoint."""
    return NotFoundError(f"No such webhook endpoint: {endpoint_id}", param="webhook_endpoint_id")


def no_delivery(delivery_id: str) -> NotFoundError:
    """Return the error for an unknown delivery."""
    return NotFoundError(f"No such delivery: {delivery_id}", param="delivery_id")


def file_in_use(file_id: str, job_ids: Sequence[str]) -> ConflictError:
    """Return the error for deleting a file that the unfinished jobs `job_ids` need."""
    return ConflictError(
        f"File '{file_id}' is needed by unfinished fine-tuning jobs: {', '.join(job_ids)}. "
        "Cancel them or wait until they have ended.",
        param="file_id",
        code="file_in_use",
    )


def check_pending(upload: Upload, *, now: int) -> None:
    """Raise `ConflictError` unless `upload` takes parts at the unix second `now`."""
    status = upload.status
    if status is UploadStatus.PENDING and now < upload.expires_at:
        return
    if status is UploadStatus.PENDING:
        status = UploadStatus.EXPIRED
    became = f" as file '{upload.file_id}'" if upload.file_id else ""
    raise ConflictError(
        f"Upload '{upload.id}' is {status}{became}, and only a pending one takes parts or can be "
        "completed or cancelled. Create another upload.",
        param="upload_id",
        code="upload_not_pending",
    )


def check_room(upload: Upload, part: UploadPart, *, there: int) -> None:
    """Raise `InvalidRequestError` if `upload`, whose parts have `there` bytes, has no room for one.

    That is, for `part` in what it announced.
    """
    if there + part.bytes > upload.bytes:
        raise InvalidRequestError(
            f"Upload '{upload.id}' was created for {upload.bytes} bytes and has {there} of them; "
            f"this part has {part.bytes}, which is more than are left. Send no part twice, or "
            "create an upload with the right number.",
            param="data",
        )


def completed(upload: Upload, file: File) -> Upload:
    """Return `upload` when it has become `file`."""
    return upload.model_copy(update={"status": UploadStatus.COMPLETED, "file_id": file.id})


def cancelled(upload: Upload) -> Upload:
    """Return `upload` when it is cancelled."""
    return upload.model_copy(update={"status": UploadStatus.CANCELLED})


def no_upload(upload_id: str) -> NotFoundError:
    """Return the error for an unknown upload id."""
    return NotFoundError(f"No such Upload object: {upload_id}", param="upload_id")


def no_file(file_id: str) -> NotFoundError:
    """Return the error for an unknown file id."""
    return NotFoundError(f"No such File object: {file_id}", param="file_id")


def no_file_for_job(file_id: str, key: str) -> NotFoundError:
    """Return the error for a job whose file, which its request names as `key`, is not there."""
    return NotFoundError(
        f"No such File object: {file_id}; it may have expired. Upload the file with purpose "
        f"'fine-tune' and give its id as '{key}'.",
        param=key,
    )


def no_file_named(filename: str) -> NotFoundError:
    """Return the error for an unknown name of a training file, in OPEA's words."""
    return NotFoundError(f"Training file '{filename}' not found!", param="training_file")


def no_job(job_id: str) -> NotFoundError:
    """Return the error for an unknown job id."""
    return NotFoundError(f"No such fine-tuning job: {job_id}", param="fine_tuning_job_id")


def no_key(key_id: str) -> NotFoundError:
    """Return the error for an unknown id of an API key."""
    return NotFoundError(
        f"There is no API key with the id '{key_id}'; `tunesmith keys list` shows the ids.",
    )


def no_project(name: str) -> NotFoundError:
    """Return the error for an unknown project."""
    return NotFoundError(
        f"There is no project '{name}'. A project is made with its first key: "
        f"`tunesmith keys create --project {name} --name …`.",
    )


def key_reused(key: str, job_id: str) -> ConflictError:
    """Return the error for an idempotency key that was sent with another request before."""
    return ConflictError(
        f"The idempotency key '{key}' was sent with another request within the last 24 hours, "
        f"which created job '{job_id}'. Send another key for another request.",
        param="Idempotency-Key",
        code="idempotency_key_reused",
    )


def unknown_cursor(after: str) -> InvalidRequestError:
    """Return the error for a cursor that is no row of the list."""
    return InvalidRequestError(
        f"'after' names nothing in this list: {after}. Give the id of a row that it returned.",
        param="after",
    )
