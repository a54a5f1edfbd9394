"""A run directory, `runs/<job id>/`: the one place where controller and training meet.

runs/<job id>/
  spec.json            the frozen spec
  base_model.json      the base model, its revision a commit, as the first attempt found it
  attempt              number of the attempt that may write here
  events               one JSON line per event, numbered from 1
  log                  what the training processes printed, all attempts; see `artifacts/logs.py`
  checkpoints/step-N/  adapter or all weights, tokenizer and training state at step N
  metrics.csv          one line per optimizer step
  receipt.json         what is learnt from, in sums; what came of it, once there is an end
  receipt.jsonl        the same line by line
  receipt.parquet      the same with each token; see `artifacts/receipts.py`
  reference.safetensors
                       log-probabilities of preference pairs before the first step
  baseline.safetensors losses of the held-out examples before the first step
  verdict.json         how the result compares with them
  measurement.json     what a run found that only measures, for an estimate
  tensorboard/         the metrics as TensorBoard's event files, one of each attempt
  wandb/               what Weights & Biases wrote in offline mode
output/<job id>/       the result; `checkpoint-N/` beside it, where OPEA's users look
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import ValidationError

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.domain.errors import ArtifactMissingError, StaleJobError
from tunesmith.domain.estimates import Measurement
from tunesmith.domain.events import RunEvent
from tunesmith.domain.models import CatalogueEntry
from tunesmith.domain.spec import TrainSpec
from tunesmith.domain.verdicts import Verdict

ReceiptForm = Literal["json", "jsonl", "parquet"]
"""The sums of a receipt; line by line; with each token."""

_STEP = re.compile(r"/checkpoints/step-(\d+)/")


class RunDirectory:
    """Reads and writes one job's run directory through `Artifacts`."""

    def __init__(self, artifacts: Artifacts, job_id: str) -> None:
        """Look at the run of `job_id`; nothing is created yet."""
        self._artifacts = artifacts
        self.job_id = job_id
        """The job whose run it is."""
        self.prefix = f"runs/{job_id}"
        """Key prefix of the run directory."""
        self.output = f"output/{job_id}"
        """Key prefix of what the run hands out."""
        self.tensorboard = f"{self.prefix}/tensorboard"
        """Key prefix of TensorBoard's files."""
        self._measurement = f"{self.prefix}/measurement.json"

    def write_spec(self, spec: TrainSpec) -> None:
        """Freeze `spec` beside the run."""
        self._artifacts.put(f"{self.prefix}/spec.json", spec.model_dump_json(indent=2).encode())

    def read_spec(self) -> TrainSpec:
        """Return the frozen spec. Raises `ArtifactMissingError`."""
        return TrainSpec.model_validate_json(self._artifacts.get(f"{self.prefix}/spec.json"))

    def claim(self, attempt: int) -> None:
        """Make `attempt` the only one that may write; an older one that is left over gives up.

        Raises `StaleJobError` if a later one has claimed the run already.
        """
        key = f"{self.prefix}/attempt"
        if self._artifacts.exists(key) and self._claimed() > attempt:
            raise self._replaced(attempt)
        self._artifacts.put(key, str(attempt).encode())

    def check_claim(self, attempt: int) -> None:
        """Raise `StaleJobError` if another attempt has claimed the run since."""
        if self._claimed() != attempt:
            raise self._replaced(attempt)

    def _claimed(self) -> int:
        return int(self._artifacts.get(f"{self.prefix}/attempt"))

    def _replaced(self, attempt: int) -> StaleJobError:
        return StaleJobError(f"Attempt {attempt} was replaced by attempt {self._claimed()}.")

    def pin_base_model(self, entry: CatalogueEntry) -> None:
        """Make `entry` the base model of all later attempts."""
        self._artifacts.put(f"{self.prefix}/base_model.json", entry.model_dump_json().encode())

    def pinned_base_model(self) -> CatalogueEntry | None:
        """Return the base model that an earlier attempt pinned; `None` where none did."""
        try:
            content = self._artifacts.get(f"{self.prefix}/base_model.json")
        except ArtifactMissingError:
            return None
        return CatalogueEntry.model_validate_json(content)

    def events(self, *, after: int) -> list[RunEvent]:
        """Return the whole events with a number above `after`, in order.

        What is behind a line that is not whole is left for later.
        """
        lines = self._artifacts.tail(f"{self.prefix}/events", 0).split(b"\n")[:-1]
        return list(_whole_events(lines[after:], first=after + 1))

    def events_from(self, offset: int, *, first: int) -> tuple[list[RunEvent], int]:
        """Return the whole events from the byte `offset` on, and the offset behind them.

        The next event there has the number `first`; `mend_events` leaves whole ones in their place.
        """
        lines = self._artifacts.tail(f"{self.prefix}/events", offset).split(b"\n")[:-1]
        found = list(_whole_events(lines, first=first))
        return found, offset + sum(len(line) + 1 for line in lines[: len(found)])

    def append_event(self, event: RunEvent) -> None:
        """Write one event behind the others; its number must be the next one."""
        line = event.model_dump_json(exclude_none=True).encode() + b"\n"
        self._artifacts.append(f"{self.prefix}/events", line)

    def mend_events(self) -> int:
        """Drop the lines from the first that is no event in its place; return the last number.

        A killed writer leaves such a line behind, or a disk that lost power.
        """
        key = f"{self.prefix}/events"
        content = self._artifacts.tail(key, 0)
        lines = content.split(b"\n")[:-1]
        count = len(list(_whole_events(lines, first=1)))
        whole = b"".join(line + b"\n" for line in lines[:count])
        if whole != content:
            self._artifacts.put(key, whole)
        return count

    def checkpoint_steps(self) -> list[int]:
        """Return the steps at which checkpoints are kept, ascending."""
        keys = self._artifacts.list(f"{self.prefix}/checkpoints")
        return sorted({int(found[1]) for key in keys if (found := _STEP.search(key))})

    def checkpoint(self, step: int) -> str:
        """Return the key prefix of the checkpoint at `step`."""
        return f"{self.prefix}/checkpoints/step-{step}"

    def scratch(self) -> AbstractContextManager[Path]:
        """Return a context with an empty folder in which to make a checkpoint's folder."""
        return self._artifacts.scratch()

    def save_checkpoint(self, step: int, folder: Path) -> None:
        """Keep the files of `folder` as the checkpoint at `step`, whole or not at all."""
        self._artifacts.put_folder(self.checkpoint(step), folder)

    def published_checkpoint(self, step: int) -> str:
        """Return the key prefix under which the adapter of `step` is handed out."""
        return f"{self.output}/checkpoint-{step}"

    def publish(self, step: int, target: str, *, names: Iterator[str]) -> None:
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
        """Keep the receipt's sums, JSON."""
        self._artifacts.put(f"{self.prefix}/receipt.json", receipt)

    def write_receipt_lines(self, lines: Iterable[bytes], *, table: Iterable[bytes]) -> None:
        """Keep the receipt line by line: without tokens, JSON lines; with them, Parquet."""
        self._artifacts.put(f"{self.prefix}/receipt.jsonl", lines)
        self._artifacts.put(f"{self.prefix}/receipt.parquet", table)

    def open_receipt(self, form: ReceiptForm) -> BinaryIO:
        """Return a stream over the receipt in `form`. Raises `ArtifactMissingError`."""
        return self._artifacts.open(f"{self.prefix}/receipt.{form}")

    def write_measurement(self, measurement: Measurement) -> None:
        """Keep what a run found that only measures."""
        self._artifacts.put(self._measurement, measurement.model_dump_json().encode())

    def measurement(self) -> Measurement:
        """Return what `write_measurement` kept. Raises `ArtifactMissingError`."""
        return Measurement.model_validate_json(self._artifacts.get(self._measurement))

    def save_wandb(self, folder: Path) -> None:
        """Keep the files of `folder`, which Weights & Biases wrote in offline mode."""
        self._artifacts.put_folder(f"{self.prefix}/wandb", folder)

    def tensorboard_files(self) -> list[bytes]:
        """Return the content of TensorBoard's event files, oldest first."""
        return [self._artifacts.get(key) for key in self._artifacts.list(self.tensorboard)]

    def write_tensorboard(self, name: str, records: bytes) -> None:
        """Keep `records` as the event file `name` of TensorBoard's."""
        self._artifacts.put(f"{self.tensorboard}/{name}", records)

    def append_tensorboard(self, name: str, record: bytes) -> None:
        """Write one record behind the others of the event file `name`."""
        self._artifacts.append(f"{self.tensorboard}/{name}", record)

    def write_reference(self, tensors: bytes) -> None:
        """Keep the log-probabilities of all pairs before the first step, safetensors."""
        self._artifacts.put(f"{self.prefix}/reference.safetensors", tensors)

    def reference(self) -> bytes | None:
        """Return what `write_reference` kept; `None` before that."""
        try:
            return self._artifacts.get(f"{self.prefix}/reference.safetensors")
        except ArtifactMissingError:
            return None

    def write_baseline(self, tensors: bytes) -> None:
        """Keep the losses of the held-out examples before the first step, safetensors."""
        self._artifacts.put(f"{self.prefix}/baseline.safetensors", tensors)

    def baseline(self) -> bytes | None:
        """Return what `write_baseline` kept; `None` before that."""
        try:
            return self._artifacts.get(f"{self.prefix}/baseline.safetensors")
        except ArtifactMissingError:
            return None

    def write_verdict(self, verdict: Verdict) -> None:
        """Keep how the result compares with what the run started from."""
        content = verdict.model_dump_json(indent=2).encode()
        self._artifacts.put(f"{self.prefix}/verdict.json", content)

    def verdict(self) -> Verdict:
        """Return what `write_verdict` kept. Raises `ArtifactMissingError`."""
        return Verdict.model_validate_json(self._artifacts.get(f"{self.prefix}/verdict.json"))


def events_in(content: bytes) -> list[RunEvent]:
    """Return the whole events of `content`, an event log, in order."""
    return list(_whole_events(content.split(b"\n")[:-1], first=1))


def _whole_events(lines: Iterable[bytes], *, first: int) -> Iterator[RunEvent]:
    """Yield the events of `lines` up to one that cannot be read or has not the next number."""
    for number, line in enumerate(lines, start=first):
        try:
            event = RunEvent.model_validate_json(line)
        except ValidationError:
            return
        if event.number != number:
            return
        yield event
