"""Saves checkpoints aside the training, and tells and hands them out in their order."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.tracing import span
from tunesmith.training import checkpoints
from tunesmith.training.checkpoints import Learner, Snapshot
from tunesmith.training.stopping import StopFlag
from tunesmith.training.telemetry import EventLog


class Saver:
    """Saves one checkpoint after another in a thread of its own.

    Writing to the disk is not a block of `StopFlag.whole`, since training would wait for it; a
    stop waits for it by a lock of its own. Every saved checkpoint whose step was told is told and
    handed out, by whoever comes to it first: the thread, a stop, or the next attempt.
    """

    def __init__(
        self,
        run: RunDirectory,
        artifacts: Artifacts,
        *,
        events: EventLog,
        stop: StopFlag,
        keep: int,
        leads: bool = True,
    ) -> None:
        """Save into `run`, of which `artifacts` holds the files, and keep the `keep` newest.

        Nothing is saved unless this rank leads.
        """
        self._leads = leads
        self._run = run
        self._artifacts = artifacts
        self._events = events
        self._stop = stop
        self._keep = keep
        self._files = threading.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._begun: Future[None] | None = None
        self._taken: Snapshot | None = None

    def save(self, learner: Learner) -> None:
        """Begin to save `learner` as it is now, once the checkpoint before it is saved.

        Where a copy would be large, this returns only when it is saved. Raises what went wrong
        with the one before, such as `StaleJobError` if another attempt has claimed the run.
        """
        self.wait()
        if not (self._leads or learner.network.in_step):
            return
        taken = checkpoints.snapshot(learner, keep=self._leads)
        if not self._leads:
            return
        with self._stop.whole():
            self._taken = taken
            self._begun = self._thread.submit(copy_context().run, self._save_and_tell, taken)
        if not taken.apart:
            self.wait()

    def wait(self) -> None:
        """Return when all that was begun is saved, told and handed out. Raises what went wrong."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.result()

    def close(self) -> None:
        """End the thread, when what was begun is done or has failed."""
        self._thread.shutdown()

    def save_at_once(self, learner: Learner) -> None:
        """Save what was begun, and `learner` as it is now; only where no further step is taken.

        A step that is not told yet is still to be evaluated: the next attempt does that. A model
        that is divided among workers cannot be put together by one of them: then the next attempt
        goes on from what was begun.
        Raises `StaleJobError` if another attempt has claimed the run.
        """
        if not self._leads:
            return
        now = None if learner.network.in_step else checkpoints.snapshot(learner)
        for taken in (self._taken, now):
            if taken is not None and taken.step:
                self._write(taken)
                self._tell(best=taken.best)

    def _save_and_tell(self, taken: Snapshot) -> None:
        with span("checkpoint", step=taken.step):
            self._write(taken)
        with self._stop.whole():
            self._tell(best=taken.best)
            self._taken = None

    def _write(self, taken: Snapshot) -> None:
        with self._files:
            self._events.check_claim()
            if taken.step not in self._run.checkpoint_steps():
                checkpoints.save(self._run, taken)

    def _tell(self, *, best: int) -> None:
        """Tell and hand out all checkpoints that are due; forget old ones, but for that at `best`.

        To be called in a block of `StopFlag.whole`.
        """
        for step in self._run.checkpoint_steps():
            if step in self._events.checkpoints or step not in self._events.steps:
                continue
            target = self._run.published_checkpoint(step)
            checkpoints.publish(self._run, self._artifacts, step=step, target=target)
            self._events.checkpoint(self._events.steps[step])
            checkpoints.drop_old(self._run, keep=self._keep, best=best)
            self._run.write_metrics(self._events.table())
