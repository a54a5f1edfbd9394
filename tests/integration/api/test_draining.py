"""A real service that is told to end by SIGTERM, without any Ray."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tunesmith.cli.database import open_store
from tunesmith.domain.liveness import CONTROLLER


class Ending:
    """One `tunesmith serve` whose cluster never answers."""

    def __init__(self, data: Path, **settings: str) -> None:
        self.data = data
        self.log = data.parent / "service.log"
        unused = "http://127.0.0.1:9"
        own = {"TUNESMITH_DATA": str(data), "TUNESMITH_LOG_FORMAT": "json", "RAY_ADDRESS": unused}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).parent / "tunesmith"), "serve", "--port", "0"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | own | settings,
            )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        self.url = first.partition(" at ")[2].partition("/v1")[0]
        assert self.url, self.log.read_text()

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def left(self) -> int:
        """Return the exit code once the process is gone."""
        code = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def leads(self) -> bool:
        return open_store(self.data).lease(CONTROLLER) is not None


@contextmanager
def service(data: Path, **settings: str) -> Iterator[Ending]:
    found = Ending(data, **settings)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.process.kill()
            found.left()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class SlowUpload(threading.Thread):
    """A request in flight: an upload whose last byte comes only when it is let go."""

    def __init__(self, url: str) -> None:
        super().__init__()
        host, _, port = url.removeprefix("http://").partition(":")
        self._line = socket.create_connection((host, int(port)), timeout=30)
        self.answer = b""
        self._body = (
            b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{}\r\n'
            b"--b--\r\n"
        )
        head = (
            f"POST /v1/files HTTP/1.1\r\nHost: {host}:{port}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n"
            f"Content-Length: {len(self._body)}\r\n\r\n"
        )
        self._line.sendall(head.encode() + self._body[:-1])

    def run(self) -> None:
        while part := self._line.recv(4096):
            self.answer += part
        self._line.close()

    def let_go(self) -> None:
        self._line.sendall(self._body[-1:])
        self.join(30)


def refused(url: str) -> bool:
    try:
        httpx.get(f"{url}/health", timeout=5)
    except httpx.ConnectError:
        return True
    return False


def test_a_service_that_ends_says_so_ends_its_requests_and_gives_up_its_lease(
    tmp_path: Path,
) -> None:
    with service(
        tmp_path / "data", TUNESMITH_DRAIN_DELAY="600", TUNESMITH_DRAIN_LIMIT="30"
    ) as ours:
        until(ours.leads)
        upload = SlowUpload(ours.url)
        upload.start()
        before = httpx.get(f"{ours.url}/ready", timeout=10).json()["missing"]
        assert "This service is ending." not in before

        ours.end()
        # In the delay it still takes requests, and says that it will not for long.
        until(lambda: "ending" in httpx.get(f"{ours.url}/ready", timeout=10).text)
        assert httpx.get(f"{ours.url}/ready", timeout=10).status_code == 503
        assert httpx.get(f"{ours.url}/health", timeout=10).status_code == 200
        # A second signal ends the delay.
        ours.end()
        # Behind it no connection is taken, but the request in flight is waited for.
        until(lambda: refused(ours.url))
        assert ours.process.poll() is None
        upload.let_go()
        assert upload.answer.startswith(b"HTTP/1.1 200 OK"), upload.answer

        assert ours.left() in (0, -signal.SIGTERM)
        assert not ours.leads()
        assert '"request_id": "req_' in ours.log.read_text()


def test_a_request_that_does_not_end_is_cut_at_the_limit(tmp_path: Path) -> None:
    with service(tmp_path / "data", TUNESMITH_DRAIN_LIMIT="1") as ours:
        upload = SlowUpload(ours.url)
        upload.start()
        until(lambda: httpx.get(f"{ours.url}/health", timeout=10).status_code == 200)
        ours.end()
        assert ours.left() in (0, -signal.SIGTERM)
        upload.join(30)
        assert not upload.answer.startswith(b"HTTP/1.1 200")


def test_both_processes_tell_their_metrics(tmp_path: Path) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with service(tmp_path / "data", TUNESMITH_CONTROLLER_METRICS_PORT=str(port)) as ours:
        until(ours.leads)
        until(lambda: "tunesmith_controller_sign_age_seconds " in told(ours.url))
        assert "tunesmith_store_up 1.0" in told(ours.url)
        assert "tunesmith_cluster_up 0.0" in told(ours.url)
        own = told(f"http://127.0.0.1:{port}")
        assert "tunesmith_controller_pass_seconds_count" in own
        assert "tunesmith_jobs" not in own


def told(url: str) -> str:
    return httpx.get(f"{url}/metrics", timeout=10).text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_a_service_without_a_delay_end_at_once(
    tmp_path: Path, number: signal.Signals
) -> None:
    delay = "60" if number is signal.SIGINT else "0"
    with service(tmp_path / "data", TUNESMITH_DRAIN_DELAY=delay) as ours:
        ours.process.send_signal(number)
        assert ours.left() in (0, -number)
