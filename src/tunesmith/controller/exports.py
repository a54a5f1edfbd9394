"""Makes the exports that clients ask for, each by a submission beside the jobs."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from tunesmith.artifacts.exports import ExportDirectory
from tunesmith.cluster.protocol import CPU, Resources, Submission, SubmissionStatus
from tunesmith.controller.doors import Doors
from tunesmith.controller.growth import needed_for
from tunesmith.controller.room import Demand
from tunesmith.domain.errors import (
    ArtifactMissingError,
    ClusterUnavailableError,
    LeaseLostError,
    NotFoundError,
    StaleJobError,
)
from tunesmith.domain.exports import (
    Export,
    ExportError,
    ExportFailure,
    ExportOutcome,
    ExportSpec,
    ExportStatus,
)

CPUS = 1
"""Processors of an export, so that it finds room beside the jobs."""

ATTEMPTS = 3
"""Launches behind which an export whose process dies without a word fails."""

_log = logging.getLogger(__name__)


class Exporter:
    """Brings exports from queued to their end. Each step is safe to repeat after a crash."""

    def __init__(self, doors: Doors, *, location: str) -> None:
        """Work through `doors`; `location` is where the artifacts are for the nodes."""
        self._doors = doors
        self._location = location
        self.needed: Mapping[str, int] = {}
        """How many nodes of each group exports wait for, by the group's name."""

    def step(self, resources: Resources | None, *, held: str | None = None) -> None:
        """Care for each export, unless there are no `resources`: the cluster is silent.

        `held` says why none is launched.
        """
        self.needed = {}
        if resources is None:
            return
        free = sum(int(node.free.get(CPU, 0.0)) // CPUS for node in resources.nodes)
        exports = self._doors.store.open_exports()
        if free <= 0 and any(export.status is ExportStatus.QUEUED for export in exports):
            self.needed = needed_for(Demand(((CPU, float(CPUS)),)), resources)
        for export in exports:
            try:
                if held is not None and export.status is ExportStatus.QUEUED:
                    self._hold(export, held)
                    continue
                free -= self._tried(export, room=free > 0)
            except LeaseLostError:
                raise
            except (ClusterUnavailableError, StaleJobError, NotFoundError):
                _log.debug("Export %s waits.", export.id)
            except Exception:  # noqa: BLE001  one export must stop neither others nor the jobs
                _log.exception("Export %s waits.", export.id)

    def _tried(self, export: Export, *, room: bool) -> int:
        """Care for `export`, and end one of which nothing can be read any more."""
        try:
            return self._care_for(export, room=room)
        except (ArtifactMissingError, ValueError) as error:
            _log.exception("Export %s cannot be cared for.", export.id)
            # One that was cancelled stays so.
            if not export.status.ended:
                self._give_up(export, error)
            return 0

    def _care_for(self, export: Export, *, room: bool) -> int:
        """Bring `export` one step on; return how many were launched."""
        if export.status is ExportStatus.QUEUED:
            if room:
                self._launch(export)
            return int(room)
        submission = self._doors.cluster.status(export.submission_id)
        alive = submission is not None and not submission.state.ended
        if export.status.ended:
            self._let_go(export, alive=alive)
        elif alive:
            self._tell(export)
        else:
            self._end(export, submission)
        return 0

    def _hold(self, export: Export, why: str) -> None:
        """Tell why `export` is not launched, once."""
        if export.message != why:
            self._doors.store.change_export(export, export.model_copy(update={"message": why}))

    def _launch(self, export: Export) -> None:
        # The row goes first: who cancels the export meanwhile has its process stopped.
        launched = export.model_copy(
            update={
                "status": ExportStatus.RUNNING,
                "attempt": export.attempt + 1,
                "submission_open": True,
                "message": "Waiting for its process",
            }
        )
        spec = ExportSpec(
            id=export.id,
            model=export.model,
            job_id=export.job_id,
            key=export.key,
            format=export.format,
            quantization=export.quantization,
            push=export.push,
            cpus=CPUS,
        )
        ExportDirectory(self._doors.artifacts, export.id).write_spec(spec)
        self._doors.store.change_export(export, launched)
        own = ("--export", export.id, "--attempt", str(launched.attempt))
        command = ("python", "-m", "tunesmith.inference.export", *own)
        self._doors.cluster.submit(
            Submission(
                id=launched.submission_id,
                command=(*command, "--artifacts", self._location),
                cpus=CPUS,
            )
        )

    def _tell(self, export: Export) -> None:
        """Bring in how far the process has come."""
        report = ExportDirectory(self._doors.artifacts, export.id).report()
        if report is None or report.attempt != export.attempt or report.outcome is not None:
            return
        told = {"progress": report.progress, "message": report.message or None}
        changed = export.model_copy(update=told)
        if changed != export:
            self._doors.store.change_export(export, changed)

    def _end(self, export: Export, submission: SubmissionStatus | None) -> None:
        """End the export as its process told it; launch it again where that died without a word."""
        report = ExportDirectory(self._doors.artifacts, export.id).report()
        if report is not None and report.attempt == export.attempt and report.outcome is not None:
            self._finish(export, report.outcome)
        elif export.attempt < ATTEMPTS:
            _log.info("Export %s was lost, and begins anew.", export.id)
            again = {"status": ExportStatus.QUEUED, "submission_open": False, "progress": 0.0}
            self._doors.store.change_export(export, export.model_copy(update=again))
        else:
            words = f" The cluster says: {submission.message}" if submission else ""
            message = (
                f"The process of the export died without a word {ATTEMPTS} times; perhaps the node "
                f"has too little memory for the model.{words}"
            )
            error = ExportError(code=ExportFailure.WORKER_LOST, message=message)
            self._finish(export, ExportOutcome(error=error))

    def _finish(self, export: Export, outcome: ExportOutcome) -> None:
        done = {
            "status": ExportStatus.FAILED if outcome.error else ExportStatus.SUCCEEDED,
            "submission_open": False,
            "progress": export.progress if outcome.error else 1.0,
            "message": None,
            "error": outcome.error,
            "files": outcome.files,
            "parity": outcome.parity,
            "finished_at": int(self._doors.clock.now()),
        }
        self._doors.store.change_export(export, export.model_copy(update=done))
        if outcome.error is not None:
            ExportDirectory(self._doors.artifacts, export.id).delete()

    def _let_go(self, export: Export, *, alive: bool) -> None:
        """Stop the process of an export that was cancelled, and remove what it made."""
        if alive:
            self._doors.cluster.stop(export.submission_id)
            return
        ExportDirectory(self._doors.artifacts, export.id).delete()
        self._doors.store.change_export(
            export, export.model_copy(update={"submission_open": False})
        )

    def _give_up(self, export: Export, fault: Exception) -> None:
        message = f"What the export told cannot be read ({type(fault).__name__}). See the log."
        error = ExportError(code=ExportFailure.INTERNAL_ERROR, message=message)
        self._finish(export, ExportOutcome(error=error))
