"""The store in memory: the fake for tests, which passes the same contract tests as SQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, TypeVar

from tunesmith.domain.clock import Clock
from tunesmith.domain.events import Checkpoint, Event, EventLevel, RunEvent
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.jobs import Job, JobChange, JobStatus
from tunesmith.domain.models import TunedModel
from tunesmith.domain.uploads import Upload, UploadPart
from tunesmith.domain.values import Page
from tunesmith.store import rules

_Row = TypeVar("_Row", File, Job, Event, Checkpoint)


class MemoryStore:
    """Keeps everything in dictionaries, whose order is that of creation; one lock guards all.

    Each method does what `Store` says of it.
    """

    def __init__(self, clock: Clock) -> None:
        """Start empty; `clock` dates what the store adds of its own."""
        self._clock = clock
        self._lock = threading.Lock()
        self._files: dict[str, File] = {}
        self._uploads: dict[str, Upload] = {}
        self._parts: list[UploadPart] = []
        self._jobs: dict[str, Job] = {}
        self._events: dict[str, list[Event]] = {}
        self._checkpoints: dict[str, list[Checkpoint]] = {}
        self._models: dict[str, TunedModel] = {}

    def add_file(self, file: File) -> None:
        """Add a file; see `Store.add_file`."""
        with self._lock:
            self._files[file.id] = file

    def file(self, file_id: str) -> File:
        """Return the file of that id; see `Store.file`."""
        with self._lock:
            return self._file(file_id)

    def newest_file_named(self, filename: str) -> File:
        """Return the newest training file of that name; see `Store.newest_file_named`."""
        with self._lock:
            named = [file for file in self._files.values() if file.filename == filename]
        if not named:
            raise rules.no_file_named(filename)
        fit = [file for file in named if file.purpose is Purpose.FINE_TUNE]
        return (fit or named)[-1]

    def list_files(
        self,
        *,
        purpose: Purpose | None,
        after: str | None,
        limit: int,
        order: Literal["asc", "desc"],
    ) -> Page[File]:
        """Return files in the order of their creation; see `Store.list_files`."""
        with self._lock:
            files = [file for file in self._files.values() if purpose in (None, file.purpose)]
        if order == "desc":
            files.reverse()
        return _page(files, after=after, limit=limit)

    def deletable_file(self, file_id: str) -> File:
        """Return the file if it may be deleted; see `Store.deletable_file`."""
        with self._lock:
            return self._deletable_file(file_id)

    def delete_file(self, file_id: str) -> File:
        """Remove the file and return it; see `Store.delete_file`."""
        with self._lock:
            file = self._deletable_file(file_id)
            del self._files[file_id]
            return file

    def add_upload(self, upload: Upload) -> None:
        """Add a pending upload; see `Store.add_upload`."""
        with self._lock:
            self._uploads[upload.id] = upload

    def pending_upload(self, upload_id: str) -> Upload:
        """Return the upload if it still takes parts; see `Store.pending_upload`."""
        with self._lock:
            return self._pending(upload_id)

    def add_part(self, part: UploadPart) -> None:
        """Add a part; see `Store.add_part`."""
        with self._lock:
            self._pending(part.upload_id)
            self._parts.append(part)

    def list_parts(self, upload_id: str) -> list[UploadPart]:
        """Return all parts of the upload; see `Store.list_parts`."""
        with self._lock:
            return [part for part in self._parts if part.upload_id == upload_id]

    def complete_upload(self, upload_id: str, file: File) -> Upload:
        """Add the file that the upload has become; see `Store.complete_upload`."""
        with self._lock:
            upload = rules.completed(self._pending(upload_id), file)
            self._uploads[upload_id] = upload
            self._files[file.id] = file
            return upload

    def cancel_upload(self, upload_id: str) -> Upload:
        """Cancel the upload; see `Store.cancel_upload`."""
        with self._lock:
            upload = self._uploads[upload_id] = rules.cancelled(self._pending(upload_id))
            return upload

    def add_job(self, job: Job) -> None:
        """Add a job, with its first event; see `Store.add_job`."""
        with self._lock:
            self._jobs[job.id] = job
            self._events[job.id] = [rules.creation_event(job)]
            self._checkpoints[job.id] = []

    def job(self, job_id: str) -> Job:
        """Return the job of that id; see `Store.job`."""
        with self._lock:
            return self._job(job_id)

    def list_jobs(
        self, *, after: str | None, limit: int, metadata: Mapping[str, str] | None = None
    ) -> Page[Job]:
        """Return jobs, newest first; see `Store.list_jobs`."""
        with self._lock:
            jobs = list(reversed(self._jobs.values()))
        return _page(
            jobs, after=after, limit=limit, wanted=lambda job: rules.labelled(job, metadata)
        )

    def open_jobs(self) -> list[Job]:
        """Return the jobs that are unfinished or hold a submission; see `Store.open_jobs`."""
        with self._lock:
            jobs = list(self._jobs.values())
        return [job for job in jobs if not job.status.terminal or job.submission_open]

    def change_job(
        self,
        seen: Job,
        change: JobChange,
        *,
        message: str | None = None,
        level: EventLevel = EventLevel.INFO,
    ) -> Job:
        """Apply `change` to the job as it was seen; see `Store.change_job`."""
        with self._lock:
            events = rules.change_events(
                seen.id, change, message=message, level=level, at=self._now()
            )
            return self._change(seen, change, events=events)

    def finish_job(self, seen: Job, change: JobChange, *, model: TunedModel, results: File) -> Job:
        """Change the job to succeeded and add what it made; see `Store.finish_job`."""
        with self._lock:
            events = rules.finish_events(seen.id, model, at=self._now())
            job = self._change(seen, rules.finishing(change, model, results=results), events=events)
            self._models[model.name] = model
            self._files[results.id] = results
            return job

    def cancel_job(self, job_id: str, *, now: int) -> Job:
        """Cancel the job at the time `now`; see `Store.cancel_job`."""
        with self._lock:
            event = rules.cancellation_event(job_id, at=now)
            change = JobChange(status=JobStatus.CANCELLED, finished_at=now)
            return self._change(self._job(job_id), change, events=[event])

    def ingest(
        self, job_id: str, events: Sequence[RunEvent], *, checkpoints: Sequence[Checkpoint]
    ) -> None:
        """Add a run's events and checkpoints, each once; see `Store.ingest`."""
        with self._lock:
            job, shown = rules.ingested(self._job(job_id), events)
            self._jobs[job_id] = job
            self._events[job_id] += shown
            kept = self._checkpoints[job_id]
            kept += rules.new_checkpoints((known.step for known in kept), checkpoints)

    def list_events(self, job_id: str, *, after: str | None, limit: int) -> Page[Event]:
        """Return the job's events, newest first; see `Store.list_events`."""
        with self._lock:
            self._job(job_id)
            events = self._events[job_id][::-1]
        return _page(events, after=after, limit=limit)

    def list_checkpoints(self, job_id: str, *, after: str | None, limit: int) -> Page[Checkpoint]:
        """Return the job's checkpoints, newest first; see `Store.list_checkpoints`."""
        with self._lock:
            self._job(job_id)
            checkpoints = self._checkpoints[job_id][::-1]
        return _page(checkpoints, after=after, limit=limit)

    def drop_checkpoints(self, job_id: str, *, keep: Sequence[int]) -> None:
        """Forget the job's checkpoints but for `keep`; see `Store.drop_checkpoints`."""
        with self._lock:
            self._job(job_id)
            kept = [known for known in self._checkpoints[job_id] if known.step in keep]
            self._checkpoints[job_id] = kept

    def list_tuned_models(self) -> list[TunedModel]:
        """Return all tuned models, newest first; see `Store.list_tuned_models`."""
        with self._lock:
            return list(reversed(self._models.values()))

    def tuned_model(self, name: str) -> TunedModel:
        """Return the tuned model of that name; see `Store.tuned_model`."""
        with self._lock:
            return self._model(name)

    def delete_tuned_model(self, name: str) -> TunedModel:
        """Forget the tuned model of that name; see `Store.delete_tuned_model`."""
        with self._lock:
            model = self._model(name)
            del self._models[name]
            self._checkpoints[model.job_id] = []
            return model

    def _now(self) -> int:
        return int(self._clock.now())

    def _file(self, file_id: str) -> File:
        if file_id not in self._files:
            raise rules.no_file(file_id)
        return self._files[file_id]

    def _deletable_file(self, file_id: str) -> File:
        file = self._file(file_id)
        needing = [
            job.id
            for job in self._jobs.values()
            if not job.status.terminal and file_id in (job.training_file, job.validation_file)
        ]
        if needing:
            raise rules.file_in_use(file_id, needing)
        return file

    def _pending(self, upload_id: str) -> Upload:
        if upload_id not in self._uploads:
            raise rules.no_upload(upload_id)
        upload = self._uploads[upload_id]
        rules.check_pending(upload, now=self._now())
        return upload

    def _job(self, job_id: str) -> Job:
        if job_id not in self._jobs:
            raise rules.no_job(job_id)
        return self._jobs[job_id]

    def _model(self, name: str) -> TunedModel:
        if name not in self._models:
            raise rules.no_model(name)
        return self._models[name]

    def _change(self, seen: Job, change: JobChange, *, events: Iterable[Event]) -> Job:
        job = self._job(seen.id)
        rules.check_seen(job, seen)
        after = rules.changed(job, change, now=self._now())
        self._jobs[job.id] = after
        self._events[job.id] += events
        return after


def _page(
    rows: list[_Row],
    *,
    after: str | None,
    limit: int,
    wanted: Callable[[_Row], bool] = lambda _: True,
) -> Page[_Row]:
    start = 0
    if after is not None:
        ids = [row.id for row in rows]
        if after not in ids:
            raise rules.unknown_cursor(after)
        start = ids.index(after) + 1
    found = [row for row in rows[start:] if wanted(row)]
    return Page(items=tuple(found[:limit]), has_more=len(found) > limit)
