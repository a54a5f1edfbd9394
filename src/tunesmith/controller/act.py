"""Carries a decision out, one job and one step at a time."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.artifacts.runs import RunDirectory
from tunesmith.cluster.protocol import Resources
from tunesmith.controller.decide import Decision, Seen, Verb
from tunesmith.controller.doors import Doors
from tunesmith.controller.finish import results_file, tuned_model
from tunesmith.controller.ingest import Ingester
from tunesmith.controller.last_words import keep_last_words
from tunesmith.controller.launch import Launcher
from tunesmith.controller.paces import record_pace
from tunesmith.controller.resolve import resolved_tuning
from tunesmith.controller.validate import FileChecks
from tunesmith.domain.changes import Change
from tunesmith.domain.devices import Device
from tunesmith.domain.errors import InvalidRequestError, NotFoundError
from tunesmith.domain.events import EventLevel, RunOutcome
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.files import File
from tunesmith.domain.jobs import Job, JobChange, JobError, JobStatus
from tunesmith.domain.verdicts import VerdictOutcome
from tunesmith.tracing import span


class Actor:
    """Does what was decided. Each act is safe to repeat after a crash in its middle."""

    def __init__(self, doors: Doors, *, launcher: Launcher, ingester: Ingester) -> None:
        """Act through `doors`; `launcher` makes submissions, `ingester` follows the runs."""
        self._doors = doors
        self._launcher = launcher
        self._ingester = ingester
        self._checks = FileChecks(doors.artifacts)

    def act(self, seen: Seen, decision: Decision) -> None:
        """Carry out `decision` on the job of `seen`.

        Raises `StaleJobError` where the job has changed since it was seen, and
        `ClusterUnavailableError` where the cluster no longer answers.
        """
        job = seen.job
        if decision.verb in (Verb.FAIL, Verb.REQUEUE) and seen.outcome is None:
            keep_last_words(self._doors, job)
        match decision.verb:
            case Verb.WAIT:
                pass
            case Verb.VALIDATE:
                self._validate(job)
            case Verb.LAUNCH:
                self._launch(job, seen.resources or self._doors.cluster.resources())
            case Verb.SUBMIT:
                self._submit(job)
            case Verb.BEGIN:
                self._begin(job)
            case Verb.SUCCEED:
                self._succeed(job, seen.outcome or RunOutcome())
            case Verb.FAIL:
                self._fail(job, decision, outcome=seen.outcome or RunOutcome())
            case Verb.REQUEUE:
                self._requeue(job, decision)
            case Verb.STOP:
                self._doors.cluster.stop(job.submission_id)
            case Verb.RELEASE:
                self._release(job)
            case Verb.YIELD:
                self._yield(job)

    def give_up(self, job: Job, fault: Exception) -> None:
        """Fail a job whose run directory cannot be read, for `fault`."""
        kind = type(fault).__name__
        message = f"The run's directory 'runs/{job.id}' cannot be read ({kind}). See the log."
        self._end(job, JobError(code=FailureCode.INTERNAL_ERROR, message=message))

    def drop_checks_but(self, jobs: Sequence[Job]) -> None:
        """End the checks of files whose jobs are no longer being validated, e.g. cancelled."""
        self._checks.drop_but({job.id for job in jobs if job.status is JobStatus.VALIDATING_FILES})

    def close(self) -> None:
        """Give up what still runs aside."""
        self._checks.close()

    def _validate(self, job: Job) -> None:
        try:
            files = self._files(job)
        except NotFoundError as error:
            # Deleted between the request's look at the file and the job's first row.
            code = FailureCode.INVALID_TRAINING_FILE
            self._end(job, JobError(code=code, message=error.message, param="training_file"))
            return
        verdict = self._checks.verdict(job, files)
        if verdict is None:
            return
        if verdict.error is not None:
            self._end(job, verdict.error)
            return
        if verdict.warning is not None:
            # Before the change of status: whoever dies in between tells it twice, but not never.
            job = self._doors.store.change_job(
                job, JobChange(), message=verdict.warning, level=EventLevel.WARN
            )
        change = JobChange(status=JobStatus.QUEUED, resolved=verdict.resolved)
        message = "Files validated, moving job to queued state"
        self._doors.store.change_job(job, change, message=message)

    def _launch(self, job: Job, resources: Resources) -> None:
        try:
            spec = self._launcher.freeze(job, self._files(job), resources=resources)
        except InvalidRequestError as error:
            missing_model = error.param == "model"
            code = FailureCode.RESOURCES_UNAVAILABLE
            code = FailureCode.MODEL_UNAVAILABLE if missing_model else code
            # Left open, they are those of the largest node; processors are on each.
            open_ones: dict[str | None, Change] = {
                "cpus": {"cpus": None},
                "device": {"device": Device.CPU.value},
                "memory": {"memory": None},
                "workers": {"workers": 1, "min_workers": None},
            }
            enough = any(node.cpus >= 1 for node in resources.nodes)
            mend = open_ones.get(error.param) if enough else None
            failure = JobError(code=code, message=error.message, param=error.param, change=mend)
            self._end(job, failure)
            return
        # Written down before it is done: whoever dies in between finds the attempt and repeats it.
        change = JobChange(
            attempt=job.attempt + 1, submission_open=True, tuning=resolved_tuning(spec)
        )
        self._submit(self._doors.store.change_job(job, change))

    def _submit(self, job: Job) -> None:
        with span("launch", parent=job.traceparent, job_id=job.id, attempt=job.attempt):
            self._doors.cluster.submit(self._launcher.submission(job))

    def _begin(self, job: Job) -> None:
        again = f" again (attempt {job.attempt})" if job.attempt > 1 else ""
        # One that was paused when it had reached its end, and resumed, was told so before.
        message = None if job.stopping else f"Fine-tuning job started{again}"
        self._doors.store.change_job(job, JobChange(status=JobStatus.RUNNING), message=message)

    def _succeed(self, job: Job, outcome: RunOutcome) -> None:
        now = int(self._doors.clock.now())
        model = tuned_model(RunDirectory(self._doors.artifacts, job.id), job, now=now)
        results = results_file(self._doors.artifacts, job, now=now)
        change = JobChange(
            status=JobStatus.SUCCEEDED,
            finished_at=now,
            fine_tuned_model=model.name,
            trained_tokens=outcome.trained_tokens,
            result_files=(results.id,),
            verdict=outcome.verdict,
            estimated_finish=None,
        )
        self._doors.store.finish_job(job, change, model=model, results=results)
        record_pace(self._doors, job)

    def _fail(self, job: Job, decision: Decision, *, outcome: RunOutcome) -> None:
        if decision.error is None:
            raise ValueError(f"Job '{job.id}' is to fail without an error.")
        self._end(job, decision.error, verdict=outcome.verdict)

    def _end(self, job: Job, error: JobError, *, verdict: VerdictOutcome | None = None) -> None:
        change = JobChange(
            status=JobStatus.FAILED,
            error=error,
            verdict=verdict,
            finished_at=int(self._doors.clock.now()),
            estimated_finish=None,
        )
        self._doors.store.change_job(job, change, message=error.message, level=EventLevel.ERROR)

    def _requeue(self, job: Job, decision: Decision) -> None:
        crashes = job.crashes + 1 if decision.crashed else job.crashes
        change = JobChange(submission_open=False, crashes=crashes)
        if job.status is JobStatus.RUNNING:
            change = JobChange(
                status=JobStatus.QUEUED,
                submission_open=False,
                crashes=crashes,
                estimated_finish=None,
            )
        message = f"{decision.reason} The job goes on from its last checkpoint."
        self._doors.store.change_job(job, change, message=message, level=EventLevel.WARN)

    def _yield(self, job: Job) -> None:
        change = JobChange(status=JobStatus.QUEUED, stopping=True, estimated_finish=None)
        message = (
            "A job of higher priority needs the room: this one saves a checkpoint, waits, and goes "
            "on from there"
        )
        self._doors.store.change_job(job, change, message=message, level=EventLevel.WARN)

    def _release(self, job: Job) -> None:
        self._doors.store.change_job(job, JobChange(submission_open=False))
        if job.status.terminal:
            self._ingester.forget(job)

    def _files(self, job: Job) -> tuple[File, File | None]:
        validation = job.validation_file
        store = self._doors.store
        return store.file(job.training_file), store.file(validation) if validation else None
