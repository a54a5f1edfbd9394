"""A proxy of the environment carries what goes to other machines, and nothing else."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tunesmith.cli import machine
from tunesmith.cli.machine import Finding
from tunesmith.cli.main import app
from tunesmith.cli.service import Service
from tunesmith.dashboard.door import Door

DEAD = "http://127.0.0.1:9"


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"object": "list", "data": [], "missing": []}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *_: object) -> None:
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, DEAD)
        monkeypatch.setenv(name.upper(), DEAD)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_commands_reach_the_service_of_this_machine(address: str, tmp_path: Path) -> None:
    service = Service(address, None, json=False)

    assert service.get("/models")["data"] == []
    service.download("/files/a/content", tmp_path / "a", told=lambda _: None)
    assert json.loads((tmp_path / "a").read_text())["data"] == []


@pytest.mark.parametrize(
    ("url", "through"),
    [
        ("http://127.0.0.1:8015", False),
        ("http://[::1]:8015/v1", False),
        ("http://localhost:8015", False),
        ("https://tuning.example.org/v1", True),
        ("http://10.0.0.7:8015", True),
    ],
)
def test_another_machine_is_reached_as_the_environment_says(url: str, through: bool) -> None:
    assert Service(url, None, json=False).through_proxy is through


def test_doctor_finds_the_service_of_this_machine(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Finding(name="ray", state="ok", told="2 can be imported")
    monkeypatch.setattr(machine, "_ray", lambda: found)

    told = CliRunner().invoke(app, ["doctor", "--data", str(tmp_path), "--url", address])

    assert f"ok    service: {address}/v1 is ready for jobs" in told.stdout


def test_the_page_reaches_the_service_of_this_machine(address: str) -> None:
    async def ask() -> object:
        door = Door(address)
        answer = await door.get("/models")
        await door.close()
        return answer["data"]

    assert asyncio.run(ask()) == []
