"""What the rooms above ask of the store; an SQL database behind it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, Protocol, Self

from tunesmith.domain.events import Checkpoint, Event, EventLevel, News, RunEvent, Told
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.idempotency import IdempotencyKey
from tunesmith.domain.jobs import Job, JobChange
from tunesmith.domain.keys import ApiKey
from tunesmith.domain.liveness import Lease
from tunesmith.domain.models import TunedModel
from tunesmith.domain.projects import Limits, Project
from tunesmith.domain.queue import Wait
from tunesmith.domain.uploads import Upload, UploadPart
from tunesmith.domain.values import Page
from tunesmith.domain.webhooks import Attempt, Delivery, WebhookEndpoint, WebhookEvent
from tunesmith.store.estimate_protocol import EstimateStore
from tunesmith.store.export_protocol import ExportStore
from tunesmith.store.figure_protocol import FigureStore
from tunesmith.store.life_protocol import LeaseStore, LifeStore
from tunesmith.store.model_protocol import ModelStore, PermissionStore
from tunesmith.store.retention_protocol import RetentionStore


class FileStore(Protocol):
    """Keeps files.

    One that has expired, by the store's clock, is as if it did not exist, unless
    an unfinished job needs it: then it is there until the job has ended.
    """

    def add_file(self, file: File) -> None:
        """Add a file whose bytes are in place already."""

    def file(self, file_id: str) -> File:
        """Return the file of that id."""

    def newest_file_named(self, filename: str) -> File:
        """Return the newest file with purpose `fine-tune` and that name.

        Where there is none, it is the newest of that name with another purpose.
        Raises `NotFoundError` with OPEA's words: "Training file '…' not found!".
        """

    def list_files(
        self,
        *,
        purpose: Purpose | None,
        after: str | None,
        limit: int,
        order: Literal["asc", "desc"],
    ) -> Page[File]:
        """Return files in the order of their creation, optionally of one purpose."""

    def check_room(self, size: int) -> None:
        """Raise `QuotaError` where a file or an upload of `size` bytes would exceed the limit.

        Adding one checks anew; this tells it before the bytes are sent.
        """

    def deletable_file(self, file_id: str) -> File:
        """Return the file if it may be deleted.

        Raises `ConflictError` with code `file_in_use` if an unfinished job needs it.
        """

    def delete_file(self, file_id: str) -> bool:
        """Remove the file; tell whether another, of any project, has its bytes under the same key.

        If none has, the caller deletes them. Raises `ConflictError` as `deletable_file` does.
        """

    def expired_files(self) -> list[File]:
        """Return the files that have expired and that no unfinished job needs."""

    def drop_expired_file(self, file_id: str) -> bool:
        """Like `delete_file`, for a file that has expired.

        Raises `NotFoundError` where it is gone already, or needed by now.
        """

    def keys_with_files(self, keys: Collection[str]) -> set[str]:
        """Return those of `keys`, a thousand at most, that a file of any project has."""

    def bytes_stored(self) -> int:
        """Return the bytes of all files, and those announced by pending uploads.

        Files with the same content count each for itself.
        """


class UploadStore(Protocol):
    """Keeps uploads and their parts."""

    def add_upload(self, upload: Upload) -> None:
        """Add a pending upload."""

    def pending_upload(self, upload_id: str) -> Upload:
        """Return the upload of that id if it still takes parts.

        Raises `ConflictError` with code `upload_not_pending` where it is
        completed, cancelled or, by the store's clock, expired.
        """

    def add_part(self, part: UploadPart) -> None:
        """Add a part whose bytes are in place already. Raises as `pending_upload` does.

        Raises `InvalidRequestError` where the parts together would have more bytes
        than the upload announced.
        """

    def list_parts(self, upload_id: str) -> list[UploadPart]:
        """Return all parts of the upload, in the order of their arrival."""

    def complete_upload(self, upload_id: str, file: File) -> Upload:
        """Add the file that the upload has become, and return the completed upload.

        Raises as `pending_upload` does. The rows of its parts stay.
        """

    def cancel_upload(self, upload_id: str) -> Upload:
        """Cancel the upload and return it. Raises as `pending_upload` does."""


class JobStore(Protocol):
    """Keeps jobs, their events and checkpoints."""

    def add_job(self, job: Job, *, key: IdempotencyKey | None = None) -> Job:
        """Add a job, with its first event, and return it.

        Where `key` has created a job before, that is returned instead, as it is
        now. Raises `NotFoundError` that names the request's key where a file of the
        job is not there: a file goes before its job comes, or not until the job has
        ended. Raises as `job_of_key` does, and as `startable_model` does where the
        job starts from a tuned model.
        """

    def job_of_key(self, key: IdempotencyKey) -> Job | None:
        """Return the job that a request with `key` has created lately; `None` for none.

        Raises `ConflictError` with code `idempotency_key_reused` where that asked
        for something else.
        """

    def drop_idempotency_keys(self) -> int:
        """Forget the idempotency keys that have outlived their time; return how many."""

    def job(self, job_id: str) -> Job:
        """Return the job of that id."""

    def list_jobs(
        self, *, after: str | None, limit: int, metadata: Mapping[str, str] | None = None
    ) -> Page[Job]:
        """Return jobs, newest first, optionally those that carry all labels in `metadata`.

        An empty `metadata` means the jobs that carry no label at all. `after` may
        be any job, whatever it carries.
        """

    def open_jobs(self) -> list[Job]:
        """Return the jobs that are unfinished or hold a submission, oldest first."""

    def jobs_ended_since(self, at: int) -> list[Job]:
        """Return the jobs that have ended since the unix second `at`, the first to end first."""

    def change_job(
        self,
        seen: Job,
        change: JobChange,
        *,
        message: str | None = None,
        level: EventLevel = EventLevel.INFO,
    ) -> Job:
        """Apply `change` and add an event with `message`; return the job as it is then.

        `seen` is the job as the caller read it: if its status or attempt has
        changed since, nothing happens and `StaleJobError` is raised. Raises
        `ConflictError` where the change is not allowed.

        Without a `message` there is no event, but a change of status always has
        one. A job that ends is dated by the store's clock unless `change` names
        `finished_at`; one that is not running has no `estimated_finish`.
        """

    def finish_job(self, seen: Job, change: JobChange, *, model: TunedModel, results: File) -> Job:
        """Like `change_job` to succeeded, together with the tuned model and its metrics table.

        The job's `fine_tuned_model` and `result_files` are those of `model` and
        `results`; two events tell of the model and of the end.
        """

    def cancel_job(self, job_id: str, *, now: int) -> Job:
        """Cancel the job at the time `now`, in unix seconds, with an event that says so.

        A submission that is open stays so, for the controller to stop. Raises
        `ConflictError` if the job has ended already.
        """

    def pause_job(self, job_id: str) -> Job:
        """Pause a queued or running job, with an event that says so.

        An attempt that is open stays so, marked as `stopping`, for the controller
        to stop. Raises `ConflictError` with code `job_not_pausable` for another job.
        """

    def resume_job(self, job_id: str) -> Job:
        """Put a paused job back into the queue, with an event that says so.

        Raises `ConflictError` with code `job_not_paused` for another job.
        """

    def ingest(
        self, job_id: str, events: Sequence[RunEvent], *, checkpoints: Sequence[Checkpoint]
    ) -> None:
        """Add a run's events and checkpoints; those ingested before are passed over.

        Events are known by their number, in ascending order; checkpoints by their
        step. An event that brings nothing but the run's outcome is counted in
        `Job.run_events_seen` and not shown. The newest metrics set a running job's
        `estimated_finish`. The job's status does not matter: the end of a cancelled
        run is ingested too.
        """

    def list_events(self, job_id: str, *, after: str | None, limit: int) -> Page[Event]:
        """Return the job's events, newest first."""

    def job_metrics(self, job_id: str) -> list[dict[str, Any]]:
        """Return the `data` of the job's metrics events, in the order of the steps.

        Of a step that was taken again, after a crash or a pause, the last stays.
        """

    def events_behind(self, job_id: str, *, after: str | None, limit: int) -> Told:
        """Return the job's events behind that of the id `after`, oldest first, at most `limit`.

        Without an `after`, they are those from the first on.
        """

    def news(self, *, behind: int | None) -> News:
        """Return the jobs that have told something behind the place `behind`.

        Without a `behind` there are none, and the place alone is of use. One question
        serves all who follow a job, of whichever project.
        """

    def list_checkpoints(self, job_id: str, *, after: str | None, limit: int) -> Page[Checkpoint]:
        """Return the job's checkpoints, newest first."""

    def drop_checkpoints(self, job_id: str, *, keep: Sequence[int]) -> None:
        """Forget the job's checkpoints, but for those at the steps `keep`."""


class WaitStore(Protocol):
    """Keeps why jobs wait, as the controller tells it now and then."""

    def tell_waits(self, told: Sequence[Wait], *, over: Collection[str]) -> None:
        """Keep `told` in the place of what was told of these jobs before; `over` wait no more."""

    def waits(self, job_ids: Collection[str]) -> dict[str, Wait]:
        """Return why these jobs wait, by their ids, as far as it was told; a thousand at most."""

    def all_waits(self) -> list[Wait]:
        """Return why each job waits, in the order of their turns."""


class KeyStore(Protocol):
    """Keeps projects and their API keys, all of them whatever project the store is within."""

    def add_key(self, key: ApiKey) -> None:
        """Add a key, and its project where it is the first key of that."""

    def list_keys(self) -> list[ApiKey]:
        """Return all keys, oldest first, the expired and the revoked among them."""

    def revoke_key(self, key_id: str) -> ApiKey:
        """Revoke the key by the store's clock and return it; one revoked before stays as it is.

        Raises `NotFoundError`.
        """

    def list_projects(self) -> list[Project]:
        """Return all projects, oldest first; the default one is always among them."""

    def set_limits(self, name: str, limits: Mapping[str, int | None]) -> Project:
        """Set those limits of the project that `limits` names, by `Limits`' fields; return it.

        Null gives one back to the service's default. Raises `NotFoundError`.
        """


class WebhookStore(Protocol):
    """Keeps webhook endpoints, and what they are to be told.

    A job that ends adds its deliveries in the transaction that ends it.
    """

    def add_endpoint(self, endpoint: WebhookEndpoint) -> None:
        """Add an endpoint. Raises `QuotaError` where the project has too many."""

    def endpoint(self, endpoint_id: str) -> WebhookEndpoint:
        """Return the endpoint of that id."""

    def list_endpoints(self, *, after: str | None, limit: int) -> Page[WebhookEndpoint]:
        """Return endpoints, newest first."""

    def change_endpoint(self, endpoint_id: str, changes: dict[str, Any]) -> WebhookEndpoint:
        """Give the endpoint's fields that `changes` names new values, and return it."""

    def delete_endpoint(self, endpoint_id: str) -> None:
        """Forget the endpoint and its deliveries."""

    def list_deliveries(self, endpoint_id: str, *, after: str | None, limit: int) -> Page[Delivery]:
        """Return the endpoint's deliveries, newest first."""

    def delivery(self, endpoint_id: str, delivery_id: str) -> Delivery:
        """Return the endpoint's delivery of that id."""

    def add_sample(self, endpoint_id: str, event: WebhookEvent) -> Delivery:
        """Add a delivery of a sample of `event`, due now, whatever the endpoint asks to be told."""

    def retry_delivery(self, endpoint_id: str, delivery_id: str) -> Delivery:
        """Make the delivery due now, with all its attempts before it, and return it."""

    def due_deliveries(
        self, *, busy: Collection[str], limit: int
    ) -> list[tuple[WebhookEndpoint, Delivery]]:
        """Return what is to be posted now, by the store's clock.

        It is the longest due delivery of each endpoint, of at most `limit` endpoints, but
        of none whose id is in `busy`.
        """

    def record_attempt(self, delivery_id: str, attempt: Attempt) -> Delivery | None:
        """Note what came of posting the delivery, and return it as it is then.

        An endpoint that is gone is disabled, and what waits for it fails. A delivery
        that was deleted meanwhile is `None`.
        """

    def drop_deliveries(self, *, before: int) -> int:
        """Forget the deliveries made before the unix second `before`; return their number."""


class Store(
    FileStore,
    UploadStore,
    JobStore,
    WaitStore,
    EstimateStore,
    ExportStore,
    ModelStore,
    PermissionStore,
    KeyStore,
    WebhookStore,
    LifeStore,
    LeaseStore,
    RetentionStore,
    FigureStore,
    Protocol,
):
    """Keeps the service's state. Each method is one transaction.

    Lists are paged by cursor: `after` is the id of the last row that the caller has,
    `limit` the most rows of a page, at least 1. Their order is that of insertion.
    An `after` that is not in the list raises `InvalidRequestError`, an unknown id
    `NotFoundError`.
    """

    @property
    def local(self) -> bool:
        """Whether short questions are answered at once, since the database is a local file."""

    def fenced(self, lease: Lease) -> Self:
        """Return this store as the holder of `lease` writes to it.

        Whatever it would change, it changes in a transaction that finds the lease still
        its own, and else raises `LeaseLostError`.
        """

    def within(self, project: str, limits: Limits | None = None) -> Self:
        """Return this store as `project` sees it, where it may have as much as `limits` say.

        It finds nothing that belongs to another project, as if it did not exist,
        and whatever it adds belongs to `project`. What a job or an upload makes
        belongs to its project, whoever adds it. A file, an upload or a job that
        would exceed `limits` raises `QuotaError`; two that are added at once are
        counted one after the other.
        """
