"""Writes a run's metrics as files that TensorBoard shows.

They are written through the artifacts like the run's events, a record a step, so that they can be
watched while the run goes on. Each attempt begins a file of its own with the steps that the files
before lack, whose last record may be broken: no step is lost, and none is there twice.
"""

from __future__ import annotations

import importlib
import io
import time
from collections.abc import Sequence
from typing import Any

from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.spec import TrainSpec
from tunesmith.training.board import Point, flat_config

_HEAD, _CHECKSUM = 8, 4
"""Bytes of a record's length, and of the checksums behind the length and behind the content."""


class TensorboardBoard:
    """Event files in the run directory."""

    name = "TensorBoard"

    def __init__(self, spec: TrainSpec, run: RunDirectory, *, attempt: int) -> None:
        """Write into the directory of `run`, in the `attempt` of this number."""
        self.place = f"the folder '{run.tensorboard}'"
        self._spec = spec
        self._run = run
        # TensorBoard reads the files of a folder in the order of their names.
        self._file = f"events.out.tfevents.{int(time.time()):010d}.{run.job_id}.attempt-{attempt}"
        self._format: _Format | None = None
        self._newest = 0

    def open(self, history: Sequence[Point]) -> None:
        """Begin the file with what of `history` the files of earlier attempts lack."""
        self._format = _Format()
        self._newest = max(map(self._format.newest, self._run.tensorboard_files()), default=0)
        lacking = [point for point in history if point.step > self._newest]
        records = (self._format.head(self._spec), *map(self._format.record, lacking))
        self._run.write_tensorboard(self._file, b"".join(records))
        self._newest = max((point.step for point in lacking), default=self._newest)

    def step(self, point: Point) -> None:
        """Write one step more, unless a file has it."""
        if self._format is not None and point.step > self._newest:
            self._run.append_tensorboard(self._file, self._format.record(point))
            self._newest = point.step

    def stopped(self) -> None:
        """Leave the file as it is: it lacks nothing."""

    def close(self, outcome: str) -> None:
        """Leave the file as it is: it lacks nothing."""

    def mend(self, error: BaseException) -> str:
        """Return what is to be done about `error`."""
        if isinstance(error, ModuleNotFoundError):
            return "Install the package 'tensorboard' on the nodes."
        return "See the run's log, and whether its data folder can be written."


class _Format:
    """TensorBoard's own records. Nothing of TensorFlow is imported, be it there or not."""

    def __init__(self) -> None:
        self._events = importlib.import_module("tensorboard.compat.proto.event_pb2")
        self._summaries = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        self._hparams = importlib.import_module("tensorboard.plugins.hparams.summary_v2")
        self._writer = importlib.import_module("tensorboard.summary.writer.record_writer")

    def newest(self, content: bytes) -> int:
        """Return the last step of a file; 0 if it has none."""
        steps, at = [0], 0
        while (size := content[at : at + _HEAD]) and len(size) == _HEAD:
            begin = at + _HEAD + _CHECKSUM
            at = begin + int.from_bytes(size, "little") + _CHECKSUM
            if at > len(content):
                break
            steps.append(self._events.Event.FromString(content[begin : at - _CHECKSUM]).step)
        return max(steps)

    def head(self, spec: TrainSpec) -> bytes:
        """Return what a file begins with: its version, and the values of `spec`."""
        now = time.time()
        values = self._hparams.hparams_pb(
            flat_config(spec), trial_id=spec.job_id, start_time_secs=now
        )
        return self._records(
            self._events.Event(wall_time=now, file_version="brain.Event:2"),
            self._events.Event(wall_time=now, summary=values),
        )

    def record(self, point: Point) -> bytes:
        """Return the record of `point`."""
        values = [
            self._summaries.Summary.Value(tag=name, simple_value=number)
            for name, number in point.numbers.items()
        ]
        summary = self._summaries.Summary(value=values)
        return self._records(
            self._events.Event(wall_time=point.at, step=point.step, summary=summary)
        )

    def _records(self, *events: Any) -> bytes:
        content = io.BytesIO()
        writer = self._writer.RecordWriter(content)
        for event in events:
            writer.write(event.SerializeToString())
        return content.getvalue()
