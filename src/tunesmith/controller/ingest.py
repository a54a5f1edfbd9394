"""Brings what runs have written into the store, each event once."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.events import Checkpoint, RunEvent, RunOutcome
from tunesmith.domain.ids import checkpoint_model_name, new_checkpoint_id
from tunesmith.domain.jobs import Job
from tunesmith.store.protocol import Store


@dataclass(slots=True)
class _Reading:
    """How far one run's event log has been read by this process."""

    number: int = 0
    offset: int = 0
    outcome: RunOutcome | None = None
    checkpoints: tuple[int, ...] = ()


class Ingester:
    """Follows the event logs of the open jobs.

    A log is read from its start once per process, so that an outcome which an
    earlier controller ingested but did not act upon is seen again; the store
    passes over events that it has.
    """

    def __init__(self, store: Store, artifacts: Artifacts) -> None:
        """Read from `artifacts`, write to `store`."""
        self._store = store
        self._artifacts = artifacts
        self._readings: dict[str, _Reading] = {}

    def ingest(self, job: Job) -> RunOutcome | None:
        """Bring in what is new of `job`'s run; return the outcome if the run has reported one."""
        reading = self._readings.setdefault(job.id, _Reading())
        run = RunDirectory(self._artifacts, job.id)
        # A long run's log is large, and this is asked four times a second.
        fresh, offset = run.events_from(reading.offset, first=reading.number + 1)
        if fresh:
            checkpoints = [
                _checkpoint(run, event, job=job) for event in fresh if event.checkpoint is not None
            ]
            self._store.ingest(job.id, fresh, checkpoints=checkpoints)
            self._forget_dropped(job, run)
            reading.number, reading.offset = fresh[-1].number, offset
            outcomes = [event.outcome for event in fresh if event.outcome is not None]
            reading.outcome = outcomes[-1] if outcomes else reading.outcome
        return reading.outcome

    def forget(self, job: Job) -> None:
        """Stop following `job`, which holds no submission any more."""
        self._readings.pop(job.id, None)

    def _forget_dropped(self, job: Job, run: RunDirectory) -> None:
        """Take those checkpoints out of the store that the run has dropped from its directory."""
        reading = self._readings[job.id]
        kept = tuple(run.checkpoint_steps())
        if kept != reading.checkpoints:
            self._store.drop_checkpoints(job.id, keep=kept)
            reading.checkpoints = kept


def _checkpoint(run: RunDirectory, event: RunEvent, *, job: Job) -> Checkpoint:
    if event.checkpoint is None:
        raise ValueError(f"Event {event.number} of job '{job.id}' reports no checkpoint.")
    step = event.checkpoint.step
    return Checkpoint(
        id=new_checkpoint_id(),
        job_id=job.id,
        created_at=event.created_at,
        step=step,
        model=checkpoint_model_name(run.read_spec().tuned_model, step),
        metrics=event.checkpoint,
        key=run.published_checkpoint(step),
    )
