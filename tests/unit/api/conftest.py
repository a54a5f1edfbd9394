"""An API over the fakes, and clients of both dialects that speak to it in-process."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import pyarrow as pa
import pytest
from pyarrow import parquet
from starlette.testclient import TestClient

from stores import fresh_store
from tunesmith.api.app import create_app
from tunesmith.api.checks import FileChecks
from tunesmith.api.services import Services
from tunesmith.api.streams import EventStreams
from tunesmith.artifacts.memory import MemoryArtifacts
from tunesmith.artifacts.receipts import SCHEMA
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.cluster.fake_answering import FakeAnswering
from tunesmith.controller.resolve import resolve_spec
from tunesmith.domain.clock import FakeClock
from tunesmith.domain.events import Checkpoint, RunEvent, StepMetrics
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.ids import new_checkpoint_id, new_file_id
from tunesmith.domain.jobs import Job, JobChange, JobStatus
from tunesmith.domain.models import CatalogueEntry, FolderSource, TunedModel
from tunesmith.domain.projects import DEFAULT_PROJECT
from tunesmith.domain.resolved import ResolvedHyperparameters
from tunesmith.store.sql import SqlStore
from unit.api.live import JOBS, Live

BASE = "smollm2-135m-instruct"

ADAPTER = json.dumps(
    {
        "r": 8,
        "lora_alpha": 16,
        "lora_dropout": 0.1,
        "target_modules": ["v_proj", "q_proj"],
        "use_rslora": False,
        "use_dora": False,
    }
).encode()
"""What is read of the config beside an adapter."""


def _own_folder(entry: CatalogueEntry) -> Path:
    assert isinstance(entry.source, FolderSource)
    return entry.source.path


@dataclass
class World:
    """The fakes behind one API, and what a controller would do to them."""

    clock: FakeClock = field(default_factory=FakeClock)
    answering: FakeAnswering = field(default_factory=FakeAnswering)
    artifacts: MemoryArtifacts = field(default_factory=MemoryArtifacts)
    store: SqlStore = field(init=False)
    services: Services = field(init=False)

    def __post_init__(self) -> None:
        self.store = fresh_store(self.clock).within(DEFAULT_PROJECT)
        names = (BASE, "org/tiny-llama")
        self.services = Services(
            answering=self.answering,
            store=self.store,
            artifacts=self.artifacts,
            catalogue={
                name: CatalogueEntry(name=name, source=FolderSource(path=Path("/models")))
                for name in names
            },
            organization="acme",
            clock=self.clock,
            max_upload_bytes=10_000,
            version="9.9",
            checks=FileChecks(_own_folder, workers=1),
            open_without_keys=True,
        )

    def run(self, job_id: str, *, steps: tuple[int, ...] = (5, 10)) -> Job:
        """Bring a new job to `running`, with metrics and a checkpoint at each of `steps`."""
        resolved = ResolvedHyperparameters(
            n_epochs=3,
            batch_size=4,
            learning_rate_multiplier=2.0,
            learning_rate=4e-4,
            examples=100,
        )
        job = self.store.change_job(
            self.store.job(job_id), JobChange(status=JobStatus.QUEUED, resolved=resolved)
        )
        job = self.store.change_job(job, JobChange(status=JobStatus.RUNNING, attempt=1))
        entry, file = self.services.catalogue[job.base], self.store.file(job.training_file)
        spec = resolve_spec(job, entry=entry, files=(file, None), cpus=1, keep=3)
        RunDirectory(self.artifacts, job_id).write_spec(spec)
        for number, step in enumerate(steps, start=1):
            event = RunEvent(number=number, created_at=1, message="Step", metrics=_metrics(step))
            self.artifacts.put(f"output/{job_id}/checkpoint-{step}/adapter_config.json", ADAPTER)
            self.artifacts.put(f"runs/{job_id}/checkpoints/step-{step}/adapter", b"weights")
            self.store.ingest(job_id, [event], checkpoints=[self._checkpoint(job_id, step)])
        return self.store.job(job_id)

    def finish(self, job_id: str) -> Job:
        """Bring a running job to `succeeded`."""
        self.artifacts.put(f"output/{job_id}/adapter_config.json", ADAPTER)
        base = self.store.job(job_id).base
        name = f"ft:{base}:acme::{job_id[-8:]}"
        model = TunedModel(
            name=name, base=base, job_id=job_id, created_at=7, key=f"output/{job_id}"
        )
        key = f"runs/{job_id}/metrics.csv"
        self.artifacts.put(key, b"step\n")
        results = File(
            id=new_file_id(),
            filename="metrics.csv",
            purpose=Purpose.FINE_TUNE_RESULTS,
            bytes=5,
            sha256="",
            created_at=7,
            key=key,
        )
        change = JobChange(trained_tokens=1234)
        return self.store.finish_job(self.store.job(job_id), change, model=model, results=results)

    def put_receipt(self, job_id: str, *, lines: list[int]) -> None:
        """Put a receipt of `lines` of the training file beside the job's run."""
        used = {
            "file": "training",
            "element": 0,
            "text": 1,
            "split": "train",
            "tokens": 1,
            "tokens_learnt": 1,
            "cut": False,
            "end_learnt": True,
            "token_ids": [7],
            "pieces": ["Say"],
            "learnt": [True],
        }
        table = io.BytesIO()
        rows = [{**used, "line": line} for line in lines]
        parquet.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), table)
        self.artifacts.put(f"runs/{job_id}/receipt.json", b"{}")
        self.artifacts.put(f"runs/{job_id}/receipt.parquet", table.getvalue())

    def _checkpoint(self, job_id: str, step: int) -> Checkpoint:
        return Checkpoint(
            id=new_checkpoint_id(),
            job_id=job_id,
            created_at=100 + step,
            step=step,
            model=f"ft:{self.store.job(job_id).base}:acme::{job_id[-8:]}:ckpt-step-{step}",
            metrics=_metrics(step),
            key=f"output/{job_id}/checkpoint-{step}",
        )


def _metrics(step: int) -> StepMetrics:
    return StepMetrics(
        step=step,
        train_loss=0.5,
        train_mean_token_accuracy=0.75,
        valid_loss=0.625,
        valid_mean_token_accuracy=0.7,
        total_steps=10,
        learning_rate=4e-4,
        tokens_per_second=100.0,
        seconds_left=1.0,
    )


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def http(world: World) -> Iterator[TestClient]:
    with TestClient(create_app(world.services), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def client(http: TestClient) -> openai.OpenAI:
    """Return the official client, with nothing but a base URL."""
    return openai.OpenAI(
        api_key="unused", base_url="http://testserver/v1", http_client=http, max_retries=0
    )


@pytest.fixture
def upload(http: TestClient) -> Callable[..., dict[str, Any]]:
    """Return a function that uploads a file and returns the answer."""

    def send(name: str = "train.jsonl", content: bytes = b"{}\n") -> dict[str, Any]:
        answer = http.post(
            "/v1/files", files={"file": (name, content)}, data={"purpose": "fine-tune"}
        )
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    return send


@pytest.fixture
def streams(world: World) -> EventStreams:
    return EventStreams(world.store, most=2, pause=0.02, patience=0.1, heartbeat=0.2)


@pytest.fixture
def live(world: World, streams: EventStreams) -> Iterator[httpx.Client]:
    with Live(world, streams) as client, client:
        yield client


@pytest.fixture
def job_id(live: httpx.Client, world: World) -> str:
    file = live.post(
        "/v1/files", files={"file": ("a.jsonl", b"{}\n")}, data={"purpose": "fine-tune"}
    ).json()
    body = {"model": "smollm2-135m-instruct", "training_file": file["id"]}
    created: str = live.post(JOBS, json=body).json()["id"]
    world.run(created)
    return created
