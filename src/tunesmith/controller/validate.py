"""Checks a job's files aside the loop, so that the loop stays responsive."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from io import BufferedReader, RawIOBase
from typing import TYPE_CHECKING, BinaryIO, Literal

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.dataset.problems import Rule, Severity
from tunesmith.dataset.validation import Sources, validate
from tunesmith.domain.changes import Change, without_validation_file
from tunesmith.domain.errors import ArtifactMissingError
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.files import File
from tunesmith.domain.hyperparameters import resolve_hyperparameters
from tunesmith.domain.jobs import Job, JobError
from tunesmith.domain.resolved import ResolvedHyperparameters
from tunesmith.domain.spec import Policy
from tunesmith.domain.validation import MINIMUM_EXAMPLES, ValidationOptions, ValidationReport
from tunesmith.domain.values import Value

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

logger = logging.getLogger(__name__)


class Verdict(Value):
    """What became of the check: the resolved hyperparameters, or why the job fails."""

    resolved: ResolvedHyperparameters | None = None
    """What each `"auto"` becomes; `None` if a file is bad."""
    error: JobError | None = None
    """What is wrong with the files."""
    warning: str | None = None
    """What is dubious in the files, though they can be used."""


class FileChecks:
    """Runs one check at a time in a thread of its own, and remembers its verdict until taken."""

    def __init__(self, artifacts: Artifacts) -> None:
        """Read the files from `artifacts`."""
        self._artifacts = artifacts
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="validate")
        self._running: dict[str, Future[Verdict]] = {}
        self._dropped: dict[str, threading.Event] = {}

    def verdict(self, job: Job, files: tuple[File, File | None]) -> Verdict | None:
        """Return the verdict on the training and validation file of `job`; begin the check once."""
        future = self._running.get(job.id)
        if future is None:
            dropped = self._dropped[job.id] = threading.Event()
            check_files = partial(self._check, job, files, dropped=dropped)
            self._running[job.id] = self._threads.submit(check_files)
            return None
        if not future.done():
            return None
        del self._running[job.id], self._dropped[job.id]
        try:
            return future.result()
        except ArtifactMissingError as error:
            return _fault(error.message)
        except OSError:
            # The machine's fault, such as a full disk: the next pass begins again.
            raise
        # The check's edge: a file on which it breaks would be read again for ever.
        except Exception as error:
            logger.exception("The check of the files of job %s broke.", job.id)
            kind = type(error).__name__
            return _fault(f"The check of the files broke ({kind}), which is no fault of theirs.")

    def drop_but(self, job_ids: set[str]) -> None:
        """End the checks for all jobs but `job_ids`, and forget them."""
        for job_id in set(self._running) - job_ids:
            self._dropped.pop(job_id).set()
            self._running.pop(job_id).cancel()

    def close(self) -> None:
        """Forget the checks; the next controller begins them again."""
        self.drop_but(set())
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _check(
        self, job: Job, files: tuple[File, File | None], *, dropped: threading.Event
    ) -> Verdict:
        training, validation = files
        report = self._report(job, training, beside=validation, dropped=dropped)
        if not report.ok:
            helps = self._aside(job, training, report=report, dropped=dropped)
            return _refuse("training_file", training, why=report.refusal, change=helps)
        warnings = [_warning(training, report)]
        if validation is not None:
            held_out = self._report(job, validation, minimum=1, dropped=dropped)
            if not held_out.ok:
                helps = self._aside(job, validation, report=held_out, minimum=1, dropped=dropped)
                change = helps or without_validation_file()
                return _refuse("validation_file", validation, why=held_out.refusal, change=change)
            warnings.append(_warning(validation, held_out))
        examples = min(report.examples, job.request.max_examples or report.examples)
        resolved = resolve_hyperparameters(job.request, examples=examples)
        return Verdict(resolved=resolved, warning=" ".join(filter(None, warnings)) or None)

    def _aside(
        self,
        job: Job,
        file: File,
        *,
        report: ValidationReport,
        minimum: int = MINIMUM_EXAMPLES,
        dropped: threading.Event,
    ) -> Change | None:
        """Return the change by which `file` is taken, if it is taken without its bad rows."""
        strict = job.request.bad_rows is Policy.REFUSE
        if not (strict and report.bad_rows and report.examples >= minimum):
            return None
        request = job.request.model_copy(update={"bad_rows": Policy.SET_ASIDE})
        lenient = job.model_copy(update={"request": request})
        again = self._report(lenient, file, minimum=minimum, dropped=dropped)
        return {"bad_rows": Policy.SET_ASIDE.value} if again.ok else None

    def _report(
        self,
        job: Job,
        file: File,
        *,
        beside: File | None = None,
        minimum: int = MINIMUM_EXAMPLES,
        dropped: threading.Event,
    ) -> ValidationReport:
        request = job.request
        options = ValidationOptions(
            method=request.method,
            bad_rows=request.bad_rows,
            bad_rows_share=request.bad_rows_share,
            minimum=minimum,
        )
        with ExitStack() as opened:
            watched = [
                BufferedReader(_Watched(stream, dropped), buffer_size=1024 * 1024)
                for stream in (
                    opened.enter_context(self._artifacts.open(each.key))
                    for each in (file, beside)
                    if each is not None
                )
            ]
            return validate(Sources(*watched), options)


class _Watched(RawIOBase):
    """A stream that ends early, as if the file did, once nobody waits for the verdict."""

    def __init__(self, stream: BinaryIO, dropped: threading.Event) -> None:
        self._stream = stream
        self._dropped = dropped

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        chunk = b"" if self._dropped.is_set() else self._stream.read(len(view))
        view[: len(chunk)] = chunk
        return len(chunk)


def _fault(message: str) -> Verdict:
    return Verdict(error=JobError(code=FailureCode.INTERNAL_ERROR, message=message))


def _warning(file: File, report: ValidationReport) -> str | None:
    """Return how often each rule was broken that forbids nothing."""
    found = [
        f"{count} {rule}"
        for rule, count in report.counts.items()
        if Rule(rule).severity is Severity.WARN
    ]
    if not found:
        return None
    return (
        f"Worth a look in '{file.filename}': {', '.join(found)}. "
        f"POST /v1/files/{file.id}/validate lists the places."
    )


def _refuse(
    param: Literal["training_file", "validation_file"],
    file: File,
    *,
    why: str,
    change: Change | None,
) -> Verdict:
    message = f"The {param.replace('_', ' ')} '{file.filename}' cannot be used. {why}"
    code = FailureCode(f"invalid_{param}")
    return Verdict(error=JobError(code=code, message=message, param=param, change=change))
