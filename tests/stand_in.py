"""A service with the page and a job that has learnt already, without a controller or Ray.

What needs a controller to come about (verdicts, exports) is made up here, in the shapes of the API,
and models say something that is made up.
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response

from stores import add_job, fresh_store
from tunesmith.api.app import create_app
from tunesmith.api.checks import FileChecks
from tunesmith.api.page import mount_page
from tunesmith.api.services import Services
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.cluster.fake_answering import FakeAnswering
from tunesmith.controller.resolve import resolve_spec
from tunesmith.dashboard.late import LatePage
from tunesmith.domain.answers import Finish, Piece, Question
from tunesmith.domain.clock import SystemClock
from tunesmith.domain.events import RunEvent, StepMetrics
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.ids import Dialect, new_file_id, new_job_id
from tunesmith.domain.jobs import Job, JobChange, JobStatus
from tunesmith.domain.models import CatalogueEntry, FolderSource, TunedModel
from tunesmith.domain.projects import DEFAULT_PROJECT
from tunesmith.domain.resolved import ResolvedHyperparameters
from tunesmith.domain.spec import JobRequest
from tunesmith.store.sql import SqlStore

BASE = "tiny"
EXPORTED = b"weights of an adapter"


class StandIn:
    """The service, and what a controller would do to its store."""

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        clock = SystemClock()
        self.artifacts = LocalArtifacts(folder)
        self.store: SqlStore = fresh_store(clock).within(DEFAULT_PROJECT)
        self.entry = CatalogueEntry(name=BASE, source=FolderSource(path=folder))
        self.answering = Slow(self._said)
        services = Services(
            answering=self.answering,
            store=self.store,
            artifacts=self.artifacts,
            catalogue={BASE: self.entry},
            organization="acme",
            clock=clock,
            max_upload_bytes=1_000_000,
            version="9.9",
            checks=FileChecks(lambda _: folder, workers=1),
            open_without_keys=True,
        )
        self.app = create_app(services)
        _add_made_up(self.app)
        self.url = ""
        page = LatePage(
            lambda: self.url,
            folder=folder / "page",
            max_upload_bytes=services.max_upload_bytes,
        )
        mount_page(self.app, page)
        self.port = port
        self.server: uvicorn.Server | None = None

    def start(self) -> None:
        """Begin to answer, and return once it does."""
        config = uvicorn.Config(
            self.app, port=self.port, log_config=None, timeout_graceful_shutdown=1
        )
        self.server = server = uvicorn.Server(config)
        self._thread = threading.Thread(target=server.run, daemon=True)
        self._thread.start()
        while not server.started:
            time.sleep(0.01)
        self.port = server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def end(self) -> None:
        """Answer no more."""
        assert self.server is not None
        self.app.state.streams.close()
        self.server.should_exit = True
        self._thread.join(15)

    def add_job(self, *, suffix: str, epochs: int = 3) -> Job:
        """Add a job that waits."""
        job = Job(
            id=new_job_id(Dialect.OPENAI),
            dialect=Dialect.OPENAI,
            created_at=int(time.time()),
            status=JobStatus.VALIDATING_FILES,
            model=BASE,
            organization="acme",
            training_file="file-chats",
            training_filename="chats.jsonl",
            request=JobRequest(n_epochs=epochs, suffix=suffix),
            seed=1,
        )
        add_job(self.store, job)
        resolved = ResolvedHyperparameters(
            n_epochs=epochs,
            batch_size=4,
            learning_rate_multiplier=1.0,
            learning_rate=2e-4,
            examples=100,
        )
        return self.store.change_job(
            self.store.job(job.id), JobChange(status=JobStatus.QUEUED, resolved=resolved)
        )

    def run(self, job: Job, *, steps: int, first: int = 1, total: int | None = None) -> Job:
        """Let the job tell of the steps from `first` on."""
        if first == 1:
            job = self.store.change_job(job, JobChange(status=JobStatus.RUNNING, attempt=1))
        for begin in range(first, first + steps, 500):
            numbers = range(begin, min(begin + 500, first + steps))
            events = [_step(number, total or steps) for number in numbers]
            self.store.ingest(job.id, events, checkpoints=[])
        return self.store.job(job.id)

    def _said(self, question: Question) -> list[Piece]:
        """What a model says, word by word."""
        names = {model.key: model.name for model in self.store.list_tuned_models()}
        name = names.get(question.answerer.adapter or "", question.answerer.base.name)
        words = f"This is what {name} says to it.".split(" ")
        told = [Piece(text=word if not place else f" {word}") for place, word in enumerate(words)]
        return [Piece(prompt_tokens=1), *told, Piece(finish=Finish.STOP, tokens=len(words))]

    def finish(self, job: Job) -> Job:
        """Let the job succeed."""
        name = f"ft:{BASE}:acme:{job.request.suffix}:{job.id[-8:]}"
        model = TunedModel(
            name=name,
            base=BASE,
            job_id=job.id,
            created_at=int(time.time()),
            key=f"output/{job.id}",
        )
        learnt = File(
            id=job.training_file,
            filename="chats.jsonl",
            purpose=Purpose.FINE_TUNE,
            bytes=1,
            sha256="",
            created_at=1,
            key="files/chats",
        )
        spec = resolve_spec(job, entry=self.entry, files=(learnt, None), cpus=1, keep=3)
        RunDirectory(self.artifacts, job.id).write_spec(spec)
        key = f"runs/{job.id}/metrics.csv"
        self.artifacts.put(key, b"step\n")
        results = File(
            id=new_file_id(),
            filename="metrics.csv",
            purpose=Purpose.FINE_TUNE_RESULTS,
            bytes=5,
            sha256="",
            created_at=int(time.time()),
            key=key,
        )
        change = JobChange(trained_tokens=123_456)
        return self.store.finish_job(job, change, model=model, results=results)


@contextmanager
def standing_in(folder: Path) -> Iterator[StandIn]:
    """Run a stand-in while the block lasts."""
    service = StandIn(folder)
    service.start()
    try:
        yield service
    finally:
        service.end()


def _step(number: int, total: int) -> RunEvent:
    loss = 2.5 * math.exp(-4 * number / total) + 0.2 + 0.08 * math.sin(number * 1.7)
    evaluated = number % max(1, total // 10) == 0
    metrics = StepMetrics(
        step=number,
        train_loss=loss,
        train_mean_token_accuracy=1 - loss / 4,
        valid_loss=loss + 0.1 if evaluated else None,
        valid_mean_token_accuracy=0.95 - loss / 4 if evaluated else None,
        total_steps=total,
        learning_rate=2e-4 * (1 - number / (total + 1)),
        tokens_per_second=900 + 40 * math.cos(number),
        seconds_left=float(total - number),
    )
    said = f"Step {number}/{total}: training loss={loss:.2f}"
    return RunEvent(number=number, created_at=int(time.time()), message=said, metrics=metrics)


class Slow(FakeAnswering):
    """Says one word after another."""

    async def ask(self, question: Question) -> AsyncGenerator[Piece]:
        async for piece in super().ask(question):
            await asyncio.sleep(0.02)
            yield piece


def _add_made_up(app: FastAPI) -> None:
    exports: dict[str, dict[str, Any]] = {}
    real = list(app.router.routes)

    @app.get("/v1/fine_tuning/jobs/{job_id}/verdict")
    async def verdict(job_id: str) -> Response:
        return _json(_verdict(job_id))

    @app.post("/v1/exports")
    async def export(request: Request) -> Response:
        asked = await request.json()
        made = {
            "id": f"exp_{len(exports)}",
            "object": "model.export",
            "model": asked["model"],
            "format": asked["format"],
            "quantization": None,
            "status": "succeeded",
            "progress": 1.0,
            "message": None,
            "error": None,
            "files": [{"name": "adapter.bin", "bytes": len(EXPORTED), "sha256": ""}],
            "created_at": int(time.time()),
            "finished_at": int(time.time()),
        }
        exports[made["id"]] = made
        return _json(made)

    @app.get("/v1/exports")
    async def list_exports(limit: int = 20) -> Response:
        newest = list(exports.values())[::-1][:limit]
        return _json({"object": "list", "data": newest, "has_more": False})

    @app.get("/v1/exports/{export_id}/content")
    async def content(export_id: str) -> Response:
        return Response(EXPORTED, media_type="application/zip")

    # What is made up stands before the routes that would ask for it in vain.
    made_up = app.router.routes[len(real) :]
    app.router.routes[:] = [*made_up, *real]


def _verdict(job_id: str) -> dict[str, Any]:
    def interval(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.05, "high": value + 0.05}

    return {
        "object": "fine_tuning.job.verdict",
        "job_id": job_id,
        "model": "ft:tiny",
        "baseline": BASE,
        "outcome": "better",
        "held_out": {"lines": 40, "tokens": 2000},
        "measures": [
            {
                "name": "loss",
                "better": "lower",
                "baseline": interval(2.1),
                "tuned": interval(0.6),
                "difference": interval(-1.5),
            }
        ],
        "best_checkpoint": None,
        "worse_lines": [{"line": 3, "baseline_loss": 1.0, "tuned_loss": 1.4}],
        "worse_count": 1,
        "answers": [
            {
                "line": 1,
                "question": "What is <b>2 and 2</b>?",
                "wanted": "4",
                "baseline": "I cannot say.",
                "tuned": "4",
            }
        ],
        "general": [{"text": "The sea is wide.", "baseline_loss": 2.0, "tuned_loss": 2.1}],
        "gate": {"rule": "better", "passed": True, "reason": "The loss fell by 1.5."},
    }


def _json(body: object) -> Response:
    return Response(json.dumps(body), media_type="application/json")
