"""A tiny random Llama with a byte-level tokenizer, and runs on it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from models.families import save_family
from models.tiny import save_tiny_bert, save_tiny_llama
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.artifacts.protocol import Artifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.events import RunOutcome, StepMetrics
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
from tunesmith.training.run import train
from tunesmith.training.stopping import StopFlag

JOB = "ftjob-1"


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("base") / "tiny-llama"
    save_tiny_llama(folder)
    return folder


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("base") / "tiny-bert"
    save_tiny_bert(folder)
    return folder


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model, by the name of its family."""
    root = tmp_path_factory.mktemp("families")

    def folder(name: str) -> Path:
        if not (root / name).exists():
            save_family(name, root / name)
        return root / name

    return folder


Rows = list[dict[str, str]]


def rows(count: int) -> Rows:
    """Alpaca rows whose prompts and answers have many lengths."""
    return [
        {"instruction": f"Say {'very ' * (n % 3)}{n}", "output": f"{n} " * (1 + n % 4)}
        for n in range(count)
    ]


@pytest.fixture(name="rows")
def rows_fixture() -> Callable[[int], Rows]:
    return rows


class _Killed(BaseException):
    """Stands for a power cut: nothing of the run can catch it."""


class _DyingArtifacts(LocalArtifacts):
    """Dies before something that contains `word` is appended."""

    def __init__(self, root: Path, word: bytes) -> None:
        super().__init__(root)
        self._word = word

    def append(self, key: str, data: bytes) -> None:
        if self._word in data:
            raise _Killed
        super().append(key, data)


@dataclass
class Bench:
    """A data folder with one run in it."""

    artifacts: LocalArtifacts
    run: RunDirectory
    root: Path
    base: Path

    def write_spec(self, data: Sequence[dict[str, Any]], **changes: Any) -> TrainSpec:
        """Freeze a small spec with `changes`, learning from `data`."""
        spec = TrainSpec(
            job_id=JOB,
            tuned_model="ft:tiny:org::1",
            start_from=None,
            method=Method.SUPERVISED,
            beta=None,
            preference=None,
            think=THINK_MARKS,
            ranking=None,
            bad_rows=Policy.REFUSE,
            over_length=Policy.CUT,
            early_stopping=None,
            integrations=(),
            base_model=CatalogueEntry(name="tiny", source=FolderSource(path=self.base)),
            training_file=self.upload("train", data),
            validation_file=None,
            held_out_percent=0.0,
            max_examples=None,
            max_length=128,
            seed=7,
            n_epochs=2,
            max_steps=None,
            max_seconds=None,
            optimizer=Optimizer.ADAMW,
            batch_size=4,
            learning_rate=5e-3,
            schedule="linear",
            warmup_ratio=0.1,
            weight_decay=0.01,
            max_grad_norm=1.0,
            lora=LoraSpec(rank=4, alpha=8),
            gradient_checkpointing=False,
            precision=Precision.FP32,
            evaluate_every=100,
            checkpoint_every=100,
            keep_checkpoints=3,
            cpus=1,
            workers=1,
            memory=None,
        ).model_copy(update=changes)
        self.run.write_spec(spec)
        self.run.claim(1)
        return spec

    def upload(self, name: str, data: Sequence[dict[str, Any]]) -> DataFile:
        """Put `data` where training finds it, as JSON lines."""
        return self.upload_text(name, "\n".join(json.dumps(row) for row in data))

    def upload_text(self, name: str, text: str) -> DataFile:
        """Put `text` where training finds it."""
        content = text.encode()
        self.artifacts.put(f"files/{name}", content)
        return DataFile(
            id=f"file-{name}",
            filename=f"{name}.jsonl",
            key=f"files/{name}",
            sha256=hashlib.sha256(content).hexdigest(),
        )

    def train(self, attempt: int = 1, artifacts: Artifacts | None = None) -> RunOutcome:
        """Train in this process."""
        door = artifacts or self.artifacts
        return train(RunDirectory(door, JOB), door, attempt=attempt, stop=StopFlag())

    def train_until(self, word: bytes) -> None:
        """Train until an event that contains `word` is due, and die; the next attempt may go on."""
        with pytest.raises(_Killed):
            self.train(artifacts=_DyingArtifacts(self.root, word))
        self.run.claim(2)

    def metrics(self) -> list[StepMetrics]:
        """The numbers of all steps, in the order told."""
        return [event.metrics for event in self.run.events(after=0) if event.metrics]

    def messages(self) -> list[str]:
        return [event.message for event in self.run.events(after=0)]

    def adapter(self) -> bytes:
        """The bytes of the resulting adapter."""
        return self.artifacts.get(f"{self.run.output}/adapter_model.safetensors")

    @property
    def output(self) -> Path:
        return self.root / self.run.output


@pytest.fixture
def new_bench(tmp_path: Path, base_folder: Path) -> Callable[[str], Bench]:
    """Make a bench with a data folder of its own, by name."""

    def make(name: str) -> Bench:
        artifacts = LocalArtifacts(tmp_path / name)
        return Bench(artifacts, RunDirectory(artifacts, JOB), tmp_path / name, base_folder)

    return make


@pytest.fixture
def bench(new_bench: Callable[[str], Bench]) -> Bench:
    return new_bench("data")
