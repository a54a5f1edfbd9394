"""Runs of ours and of peers, each in a process of its own whose memory is watched."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from rows import Row

from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.events import StepMetrics
from tunesmith.domain.models import CatalogueEntry, FolderSource
from tunesmith.domain.spec import (
    THINK_MARKS,
    DataFile,
    LoraSpec,
    Method,
    Optimizer,
    Policy,
    Precision,
    TrainSpec,
)
from tunesmith.training.devices import PROCESSOR
from tunesmith.training.receipt import sha256_of_file

HERE = Path(__file__).parent
THREADS = os.cpu_count() or 1
"""Threads of each run."""
_SAMPLED = 0.2
"""Seconds between two looks at a process."""


@dataclass(frozen=True)
class Sample:
    """What a process held at a time."""

    at: float
    """Unix seconds."""
    resident_mb: float
    """All that was in memory."""
    own_mb: float
    """Of it, what is no part of a file, so that the system could not take it back."""


class Memory:
    """What a process held from its beginning to its end."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        """Keep `samples`, in the order of their times."""
        self._samples = samples

    @property
    def peak_mb(self) -> float:
        """Most that was in memory."""
        return max((sample.resident_mb for sample in self._samples), default=0.0)

    @property
    def peak_own_mb(self) -> float:
        """Most that was in memory and is no part of a file."""
        return max((sample.own_mb for sample in self._samples), default=0.0)

    def between(self, begin: float, end: float) -> float:
        """Return the median of what was in memory from `begin` to `end`, in MB."""
        found = [sample.resident_mb for sample in self._samples if begin <= sample.at <= end]
        return statistics.median(found)


@dataclass(frozen=True)
class OurRun:
    """A run of ours that is over."""

    begun: float
    """Unix seconds."""
    memory: Memory
    """What its process held."""
    steps: list[StepMetrics]
    """What it told of each step."""
    log: str
    """What it printed."""
    output: Path
    """Where its result is."""

    @property
    def losses(self) -> list[float]:
        """Training loss of each step."""
        return [step.train_loss for step in self.steps]

    @property
    def tokens_per_second(self) -> float:
        """Useful tokens per second, over all steps but the first."""
        # A step's tokens are whole examples, so that each step has a rate of its own.
        return statistics.harmonic_mean([step.tokens_per_second for step in self.steps[1:]])

    def at(self, said: str) -> float:
        """Return when it first printed a line with `said`, in unix seconds."""
        found = re.search(rf"^(\S+Z) .*{re.escape(said)}", self.log, re.MULTILINE)
        assert found is not None, f"nothing was said of '{said}':\n{self.log[-3000:]}"
        return datetime.fromisoformat(found[1]).timestamp()


@dataclass(frozen=True)
class PeerRun:
    """A run of a peer that is over."""

    memory: Memory
    """What its process held."""
    begun: float
    """When its first step began, in seconds since its process did."""
    ends: list[float]
    """When each step ended, likewise."""
    losses: list[float]
    """Training loss of each step, as it says itself."""
    output: Path
    """Where its result is."""

    def per_second(self, count: float) -> float:
        """Return how many of `count` in all steps went through in a second, but for the first."""
        return count * (len(self.ends) - 1) / len(self.ends) / (self.ends[-1] - self.ends[0])


@dataclass(frozen=True)
class Result:
    """What a run was like."""

    tokens_per_second: float
    """Useful tokens per second."""
    first_step: float
    """Seconds from the start of the process to the end of the first step."""
    peak_mb: float
    """Most memory that the process held."""
    losses: list[float]
    """Training loss of each step, as it says itself."""
    held_out: float
    """Loss on the held-out rows."""

    @classmethod
    def of_ours(cls, run: OurRun, tokens_per_second: float, *, held_out: float) -> Result:
        """Return what `run` was like."""
        first_step = run.at("Step 1/") - run.begun
        return cls(tokens_per_second, first_step, run.memory.peak_mb, run.losses, held_out)

    @classmethod
    def of_peer(cls, run: PeerRun, tokens_per_second: float, *, held_out: float) -> Result:
        """Return what `run` was like."""
        return cls(tokens_per_second, run.ends[0], run.memory.peak_mb, run.losses, held_out)


def shown(result: Result) -> str:
    """Return what `result` was like, as a line for a person."""
    return (
        f"{result.tokens_per_second:6.0f} tokens/s  first step {result.first_step:5.1f} s  "
        f"{result.peak_mb:6.0f} MB  loss {result.losses[0]:.4f} to {result.losses[-1]:.4f}, "
        f"held out {result.held_out:.4f}"
    )


class Trials:
    """A folder in which runs are made."""

    def __init__(self, folder: Path) -> None:
        """Make runs in `folder`, which exists."""
        self.folder = folder
        """Where all of them is."""
        self.data = folder / "data"
        """The data folder of ours."""
        self._artifacts = LocalArtifacts(self.data)
        self._runs = 0

    def ours(self, model: Path, rows: Iterable[Row], **changes: Any) -> OurRun:
        """Tune `model` on `rows` as a job does, by the usual spec with `changes`."""
        self._runs += 1
        job = f"ftjob-{self._runs}"
        run, log = RunDirectory(self._artifacts, job), self.folder / f"{job}.log"
        usual = usual_spec(job, model=model, file=self._upload(job, rows))
        run.write_spec(usual.model_copy(update=changes))
        run.claim(1)
        command = [sys.executable, "-m", "tunesmith.training", "--attempt", "1"]
        command += ["--artifacts", str(self.data), "--job", job]
        begun = time.time()
        memory = _watched(command, log)
        return OurRun(
            begun=begun,
            memory=memory,
            steps=[event.metrics for event in run.events(after=0) if event.metrics],
            log=log.read_text(encoding="utf-8"),
            output=self.data / run.output,
        )

    def peer(
        self, script: str, python: Path, *, model: Path, rows: Sequence[Row], **task: Any
    ) -> PeerRun:
        """Tune `model` on `rows` with the peer's `script`, by `python`; `task` says how."""
        self._runs += 1
        output = self.folder / f"peer-{self._runs}"
        lines, asked = output.with_suffix(".jsonl"), output.with_suffix(".json")
        lines.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        task |= {"model": str(model), "rows": str(lines), "output": str(output)}
        task |= {"threads": THREADS, "bf16": PROCESSOR.precision(Precision.AUTO) is Precision.BF16}
        asked.write_text(json.dumps(task), encoding="utf-8")
        command = [str(python), str(HERE / "peers" / f"{script}.py"), str(asked)]
        memory = _watched(command, output.with_suffix(".log"))
        told = json.loads((output / "steps.json").read_text(encoding="utf-8"))
        return PeerRun(memory=memory, output=output, **told)

    def _upload(self, job: str, rows: Iterable[Row]) -> DataFile:
        key = f"files/{job}"
        self._artifacts.put(key, (json.dumps(row).encode() + b"\n" for row in rows))
        with self._artifacts.open(key) as file:
            digest = sha256_of_file(file)
        return DataFile(id=f"file-{job}", filename="rows.jsonl", key=key, sha256=digest)


def usual_spec(job: str, *, model: Path, file: DataFile) -> TrainSpec:
    """Return the spec of a supervised epoch with LoRA on all linear layers, in `auto` precision.

    Checkpoints are made at its end alone.
    """
    return TrainSpec(
        job_id=job,
        tuned_model="ft:bench:org::1",
        base_model=CatalogueEntry(name="bench", source=FolderSource(path=model)),
        start_from=None,
        method=Method.SUPERVISED,
        beta=None,
        preference=None,
        think=THINK_MARKS,
        ranking=None,
        training_file=file,
        validation_file=None,
        held_out_percent=0.0,
        max_examples=None,
        max_length=1024,
        bad_rows=Policy.REFUSE,
        over_length=Policy.CUT,
        seed=1,
        n_epochs=1,
        max_steps=None,
        max_seconds=None,
        batch_size=16,
        learning_rate=2e-4,
        schedule="linear",
        warmup_ratio=0.0,
        optimizer=Optimizer.ADAMW,
        weight_decay=0.0,
        max_grad_norm=1.0,
        lora=LoraSpec(rank=16, alpha=32.0),
        gradient_checkpointing=False,
        precision=Precision.AUTO,
        evaluate_every=100_000,
        early_stopping=None,
        checkpoint_every=100_000,
        keep_checkpoints=1,
        cpus=THREADS,
        workers=1,
        memory=None,
        integrations=(),
    )


def _watched(command: list[str], log: Path) -> Memory:
    """Run `command` to its end and return what it held."""
    samples: list[Sample] = []
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        process = psutil.Process(child.pid)
        while child.poll() is None:
            try:
                held = process.memory_info()
            except psutil.NoSuchProcess:
                break
            # What is part of files is told on Linux alone.
            own = held.rss - getattr(held, "shared", 0)
            samples.append(Sample(time.time(), held.rss / 1e6, own / 1e6))
            time.sleep(_SAMPLED)
    if child.wait():
        raise SystemExit(f"{command} ended with {child.returncode}:\n{log.read_text()[-3000:]}")
    return Memory(samples)
