"""What the rooms above ask of the store; SQLite behind it, and a fake beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from tunesmith.domain.events import Checkpoint, Event, EventLevel, RunEvent
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.jobs import Job, JobChange
from tunesmith.domain.models import TunedModel
from tunesmith.domain.values import Page


class Store(Protocol):
    """Keeps the service's state. Each method is one transaction.

    Lists are paged by cursor: `after` is the id of the last row that the caller has.
    An unknown `after` raises `InvalidRequestError`, an unknown id `NotFoundError`.
    """

    def add_file(self, file: File) -> None:
        """Add a file whose bytes are in place already."""

    def file(self, file_id: str) -> File:
        """Return the file of that id."""

    def newest_file_named(self, filename: str) -> File:
        """Return the newest file with purpose `fine-tune` and that name."""

    def list_files(
        self,
        *,
        purpose: Purpose | None,
        after: str | None,
        limit: int,
        order: Literal["asc", "desc"],
    ) -> Page[File]:
        """Return files in the order of their creation, optionally of one purpose."""

    def delete_file(self, file_id: str) -> File:
        """Remove the file and return it. Raises `ConflictError` if an unfinished job needs it."""

    def add_job(self, job: Job) -> None:
        """Add a job, with its first event."""

    def job(self, job_id: str) -> Job:
        """Return the job of that id."""

    def list_jobs(self, *, after: str | None, limit: int) -> Page[Job]:
        """Return jobs, newest first."""

    def open_jobs(self) -> list[Job]:
        """Return the jobs that are unfinished or hold a submission, oldest first."""

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
        """

    def finish_job(self, seen: Job, change: JobChange, *, model: TunedModel, results: File) -> Job:
        """Like `change_job` to succeeded, together with the tuned model and its metrics table."""

    def cancel_job(self, job_id: str, *, now: int) -> Job:
        """Cancel the job at the time `now`. Raises `ConflictError` if it has ended already."""

    def ingest(
        self, job_id: str, events: Sequence[RunEvent], checkpoints: Sequence[Checkpoint]
    ) -> None:
        """Add a run's events and checkpoints; those ingested before are passed over."""

    def list_events(self, job_id: str, *, after: str | None, limit: int) -> Page[Event]:
        """Return the job's events, newest first."""

    def list_checkpoints(self, job_id: str, *, after: str | None, limit: int) -> Page[Checkpoint]:
        """Return the job's checkpoints, newest first."""

    def drop_checkpoints(self, job_id: str, *, keep: Sequence[int]) -> None:
        """Forget the job's checkpoints, but for those at the steps `keep`."""

    def list_tuned_models(self) -> list[TunedModel]:
        """Return all tuned models, newest first."""

    def tuned_model(self, name: str) -> TunedModel:
        """Return the tuned model of that name."""

    def delete_tuned_model(self, name: str) -> TunedModel:
        """Forget the tuned model of that name and return it."""
