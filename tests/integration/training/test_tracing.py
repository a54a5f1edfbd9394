"""One trace leads from the client's request to the steps of training, over three processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.testclient import TestClient

from models.tiny import save_tiny_llama
from tunesmith import tracing
from tunesmith.api.app import create_app
from tunesmith.api.checks import FileChecks
from tunesmith.api.services import Services
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.cli.database import open_store
from tunesmith.cluster.fake import FakeCluster
from tunesmith.cluster.fake_answering import FakeAnswering
from tunesmith.controller.doors import Doors
from tunesmith.controller.launch import Launcher
from tunesmith.controller.loop import Controller
from tunesmith.domain.clock import SystemClock
from tunesmith.domain.models import CatalogueEntry, FolderSource
from unit.controller.world import good_rows

TRACE, CLIENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
Spans = list[tuple[str, Any]]
"""Each span with the name of the process that sent it."""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    """A collector that takes spans by OTLP over HTTP, and this process as one that traces."""
    found: Spans = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = ExportTraceServiceRequest()
            request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
            for resource in request.resource_spans:
                attributes = {
                    each.key: each.value.string_value for each in resource.resource.attributes
                }
                for scope in resource.scope_spans:
                    found.extend((attributes["service.name"], span) for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    tracing.start_tracing("api")
    yield found
    tracing._STATE.tracer = tracing._STATE.provider = None
    server.shutdown()
    server.server_close()


def launched(data: Path, model: Path) -> tuple[str, ...]:
    """Create a job through the API, let the controller launch it, and return its command."""
    store, artifacts, cluster = open_store(data), LocalArtifacts(data), FakeCluster()
    catalogue = {"tiny": CatalogueEntry(name="tiny", source=FolderSource(path=model))}
    services = Services(
        answering=FakeAnswering(),
        store=store,
        artifacts=artifacts,
        catalogue=catalogue,
        organization="acme",
        clock=SystemClock(),
        max_upload_bytes=10_000,
        version="9.9",
        checks=FileChecks(lambda _: data, workers=1),
        open_without_keys=True,
    )
    with TestClient(create_app(services)) as http:
        rows = "".join(json.dumps(row) + "\n" for row in good_rows())
        form: dict[str, Any] = {
            "files": {"file": ("a.jsonl", rows)},
            "data": {"purpose": "fine-tune"},
        }
        file = http.post("/v1/files", **form).json()
        body = {
            "model": "tiny",
            "training_file": file["id"],
            "hyperparameters": {"n_epochs": 2, "batch_size": 1},
            "tuning": {"cpus": 1, "held_out_percent": 20, "max_length": 64},
        }
        traced = {"traceparent": f"00-{TRACE}-{CLIENT}-01"}
        answer = http.post("/v1/fine_tuning/jobs", json=body, headers=traced)
        assert answer.status_code == 200, answer.text
    launcher = Launcher(artifacts, location=str(data), catalogue=catalogue, keep_checkpoints=1)
    doors = Doors(store=store, cluster=cluster, artifacts=artifacts, clock=SystemClock())
    controller, deadline = Controller(doors, launcher, crash_retries=0), time.monotonic() + 60
    while not cluster.submissions:
        assert time.monotonic() < deadline
        controller.step()
    store.close()
    return cluster.submissions[0].command


def test_one_trace_leads_from_the_request_to_the_steps(collector: Spans, tmp_path: Path) -> None:
    data, model = tmp_path / "data", tmp_path / "tiny"
    data.mkdir()
    save_tiny_llama(model)
    _, *arguments = launched(data, model)
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tracing.stop_tracing()

    ours = [(process, span) for process, span in collector if span.trace_id.hex() == TRACE]
    by_name: dict[str, list[Any]] = {}
    for _, span in ours:
        by_name.setdefault(span.name, []).append(span)
    [request], [launch], [train] = (
        by_name[name] for name in ("POST /v1/fine_tuning/jobs", "launch", "train")
    )
    assert request.parent_span_id.hex() == CLIENT
    assert launch.parent_span_id == request.span_id
    assert train.parent_span_id == launch.span_id
    assert {"tunesmith-api", "tunesmith-training"} == {process for process, _ in ours}
    for name in ("bring the base model", "read the data", "steps", "evaluation", "checkpoint"):
        assert {span.parent_span_id for span in by_name[name]} == {train.span_id}, name
    # 10 of the 12 rows are learnt from, twice.
    last = [numbers(span)["last_step"] for span in by_name["steps"]]
    assert last == [10, 20]
    assert all(numbers(span)["train_loss"] > 0 for span in by_name["steps"])


def numbers(span: Any) -> dict[str, float]:
    return {each.key: each.value.double_value or each.value.int_value for each in span.attributes}


def test_a_request_of_no_trace_begins_one_and_watching_begins_none(
    collector: Spans, tmp_path: Path
) -> None:
    launched(tmp_path, tmp_path)
    tracing.stop_tracing()
    [upload] = [span for _, span in collector if span.name == "POST /v1/files"]
    assert not upload.parent_span_id
    assert upload.trace_id.hex() != TRACE


def test_nothing_is_traced_without_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    tracing.start_tracing("api")
    with tracing.span("nothing"):
        assert tracing.traceparent() is None
    assert not tracing.is_traced()
