"""A job is followed as it runs: its events stream, its receipt is there, its end is told."""

from __future__ import annotations

import json
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
from openai import OpenAI

from e2e.conftest import new_data
from e2e.service import Service, make_job, running, until


class Receiver(BaseHTTPRequestHandler):
    """Notes what it is sent."""

    got: list[tuple[dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(204)
        self.end_headers()


def test_a_job_streams_its_events_shows_its_receipt_and_tells_of_its_end(service: Service) -> None:
    Receiver.got = []
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hook = service.client.webhooks.create(
        name="e2e",
        url=f"http://127.0.0.1:{server.server_port}/",
        event_types=["fine_tuning.job.succeeded"],
    )
    until(lambda: httpx.get(f"{service.url}/ready").status_code == 200, 60)
    job = make_job(service, epochs=2)
    path = f"{service.url}/v1/fine_tuning/jobs/{job.id}"

    with httpx.stream(
        "GET", f"{path}/events", headers={"Accept": "text/event-stream"}, timeout=240
    ) as stream:
        events = [json.loads(line[6:]) for line in stream.iter_lines() if line[:6] == "data: "]

    assert events[0]["message"].startswith("Created fine-tuning job")
    assert events[-1]["message"] == "The job has successfully completed"
    told = [event["data"]["step"] for event in events if event["type"] == "metrics"]
    assert told == list(range(1, 61))
    until(lambda: Receiver.got, 10)
    [(headers, body)] = Receiver.got
    client = OpenAI(api_key="unused", webhook_secret=hook.signing_secret)
    event = client.webhooks.unwrap(body, headers)
    assert (event.type, event.data.id) == ("fine_tuning.job.succeeded", job.id)  # type: ignore[union-attr]
    line = httpx.get(f"{path}/receipt/lines/7").json()
    [text] = line["texts"]
    learnt = "".join(token["text"] for token in text["tokens"] if token["learnt"])
    assert "6 and 6" in learnt
    assert httpx.get(f"{path}/receipt").json()["steps"] == 60
    with httpx.stream("GET", f"{path}/logs?follow=true&after=0", timeout=60) as stream:
        log = [json.loads(line[6:])["text"] for line in stream.iter_lines() if line[:6] == "data: "]
    who = f" attempt 1 rank 0 node {socket.gethostname()} INFO "
    steps = [
        line.partition(f"{who}Step ")[2].split("/")[0] for line in log if f"{who}Step " in line
    ]
    assert steps == [str(step) for step in told]
    assert log[-1].endswith(f"{who}Training finished")
    service.client.webhooks.delete(hook.id)
    server.shutdown()
    server.server_close()


def test_the_log_shows_why_a_process_died_without_a_word_of_its_own(
    tmp_path: Path, tiny_model: Path
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "peft.py").write_text("raise ImportError('peft was built for torch 1')")
    path = os.pathsep.join([str(tmp_path / "broken"), os.environ.get("PYTHONPATH", "")])
    environment = {"PYTHONPATH": path, "TUNESMITH_CRASH_RETRIES": "1"}
    with running(new_data(tmp_path, tiny_model), environment) as service:
        job = service.wait(make_job(service).id)
        url = f"{service.url}/v1/fine_tuning/jobs/{job.id}/logs"
        log = [line["text"] for line in httpx.get(url).json()["data"]]

    assert job.status == "failed"
    assert job.error is not None
    assert "peft" not in job.error.message
    last = " driver printed: ImportError: peft was built for torch 1"
    attempts = [line.split(" attempt ")[1].split()[0] for line in log if line.endswith(last)]
    assert attempts == ["1", "2"]


def test_ctrl_c_ends_a_service_that_streams(own_service: Service) -> None:
    job = make_job(own_service)
    url = f"{own_service.url}/v1/fine_tuning/jobs/{job.id}/events"
    with httpx.stream("GET", url, headers={"Accept": "text/event-stream"}, timeout=60) as stream:
        lines = stream.iter_lines()
        next(lines)

        assert own_service.end() == 0

        assert list(lines), "the stream came to its end, and was not cut off"
