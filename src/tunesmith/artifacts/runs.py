"""A run directory, `runs/<job id>/`: the one place where controller and training meet.

runs/<job id>/
  spec.json            the frozen spec
  attempt              number of the attempt that may write here
  events               one JSON line per event, numbered from 1
  log                  what the training process printed, all attempts
  checkpoints/step-N/  adapter, tokenizer and training state at step N
  metrics.csv          one line per optimizer step
  receipt.json         what was learnt from
output/<job id>/       the result; `checkpoint-N/` beside it, where OPEA's users look
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.domain.errors import StaleJobError
from tunesmith.domain.events import RunEvent
from tunesmith.domain.spec import TrainSpec

_STEP = re.compile(r"/checkpoints/step-(\d+)/")


class RunDirectory:
    """Reads and writes one job's run directory through `Artifacts`."""

    def __init__(self, artifacts: Artifacts, job_id: str) -> None:
        """Look at the run of `job_id`; nothing is created yet."""
        self._artifacts = artifacts
        self.prefix = f"runs/{job_id}"
        """Key prefix of the run directory."""
        self.output = f"output/{job_id}"
        """Key prefix of what the run hands out."""

    def write_spec(self, spec: TrainSpec) -> None:
        """Freeze `spec` beside the run."""
        self._artifacts.put(f"{self.prefix}/spec.json", spec.model_dump_json(indent=2).encode())

    def read_spec(self) -> TrainSpec:
        """Return the frozen spec. Raises `ArtifactMissingError`."""
        return TrainSpec.model_validate_json(self._artifacts.get(f"{self.prefix}/spec.json"))

    def claim(self, attempt: int) -> None:
        """Make `attempt` the only one that may write; an older one that is left over gives up."""
        self._artifacts.put(f"{self.prefix}/attempt", str(attempt).encode())

    def check_claim(self, attempt: int) -> None:
        """Raise `StaleJobError` if another attempt has claimed the run since."""
        holder = int(self._artifacts.get(f"{self.prefix}/attempt"))
        if holder != attempt:
            raise StaleJobError(f"Attempt {attempt} was replaced by attempt {holder}.")

    def events(self, *, after: int) -> list[RunEvent]:
        """Return the whole events with a number above `after`, in order.

        A last line that is still being written has no newline yet and is left for later.
        """
        lines = self._artifacts.tail(f"{self.prefix}/events", 0).split(b"\n")[:-1]
        return [RunEvent.model_validate_json(line) for line in lines[after:]]

    def append_event(self, event: RunEvent) -> None:
        """Write one event behind the others; its number must be the next one."""
        line = event.model_dump_json(exclude_none=True).encode() + b"\n"
        self._artifacts.append(f"{self.prefix}/events", line)

    def mend_events(self) -> int:
        """Drop a last line that a killed writer left unfinished; return the last number."""
        key = f"{self.prefix}/events"
        whole, newline, rest = self._artifacts.tail(key, 0).rpartition(b"\n")
        if rest:
            self._artifacts.put(key, whole + newline)
        return whole.count(b"\n") + 1 if newline else 0

    def checkpoint_steps(self) -> list[int]:
        """Return the steps at which checkpoints are kept, ascending."""
        keys = self._artifacts.list(f"{self.prefix}/checkpoints")
        return sorted({int(found[1]) for key in keys if (found := _STEP.search(key))})

    def checkpoint(self, step: int) -> str:
        """Return the key prefix of the checkpoint at `step`."""
        return f"{self.prefix}/checkpoints/step-{step}"

    def save_checkpoint(self, step: int, folder: Path) -> None:
        """Keep the files of `folder` as the checkpoint at `step`, whole or not at all."""
        self._artifacts.put_folder(self.checkpoint(step), folder)

    def published_checkpoint(self, step: int) -> str:
        """Return the key prefix under which the adapter of `step` is handed out."""
        return f"{self.output}/checkpoint-{step}"

    def publish(self, step: int, target: str, names: Iterator[str]) -> None:
        """Hand out the files `names` of the checkpoint at `step` under the prefix `target`."""
        for name in names:
            self._artifacts.copy(f"{self.checkpoint(step)}/{name}", f"{target}/{name}")

    def drop_checkpoint(self, step: int) -> None:
        """Forget the checkpoint at `step`, and what of it was handed out."""
        self._artifacts.delete(self.checkpoint(step))
        self._artifacts.delete(self.published_checkpoint(step))

    def write_metrics(self, table: bytes) -> None:
        """Keep the table of metrics, CSV."""
        self._artifacts.put(f"{self.prefix}/metrics.csv", table)

    def write_receipt(self, receipt: bytes) -> None:
        """Keep the receipt, JSON."""
        self._artifacts.put(f"{self.prefix}/receipt.json", receipt)
