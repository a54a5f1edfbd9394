"""Bodies beyond the limit, over a real connection: the client reads why, whatever it sends."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from integration.api.conftest import LIMIT, Live

HEAD = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
FORM = {"content-type": "multipart/form-data; boundary=B"}
LARGE = 40 * LIMIT


def endless(sent: list[int]) -> Iterator[bytes]:
    """Yield a form whose file has `LARGE` bytes, and count them in `sent`."""
    yield HEAD
    for _ in range(LARGE // 10_000):
        sent.append(10_000)
        yield b"x" * 10_000
    yield b"\r\n--B--\r\n"


def check_refusal(body: dict[str, dict[str, str]], live: Live) -> None:
    assert body["error"]["code"] == "request_too_large"
    assert str(LIMIT) in body["error"]["message"]
    assert live.stored() == []


@pytest.mark.parametrize("announced", [True, False])
def test_httpx_reads_the_refusal_though_it_sends_all_first(live: Live, announced: bool) -> None:
    content = HEAD + b"x" * LARGE if announced else endless([])
    answer = httpx.post(f"{live.url}/files", content=content, headers=FORM, timeout=60)
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"
    check_refusal(answer.json(), live)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("how", [(), ("-H", "Transfer-Encoding: chunked"), ("-H", "Expect:")])
def test_curl_shows_the_refusal(live: Live, tmp_path: Path, how: tuple[str, ...]) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(LARGE)
    form = ("-F", f"file=@{large}", "-F", "purpose=fine-tune")
    command = ["curl", "-sS", "-w", "\n%{http_code}", *how, *form, f"{live.url}/files"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    body, status = done.stdout.rsplit("\n", 1)
    assert status == "413"
    check_refusal(json.loads(body), live)


def test_a_length_beyond_the_limit_is_refused_before_any_of_the_body_is_sent(live: Live) -> None:
    with socket.create_connection(("127.0.0.1", live.port), timeout=30) as client:
        client.sendall(
            b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: multipart/form-data; boundary=B\r\n"
            b"Content-Length: 1000000000000\r\n\r\n"
        )
        answer = b""
        while b"request_too_large" not in answer:
            received = client.recv(65536)
            assert received, answer
            answer += received
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()


def test_a_body_without_a_length_is_refused_while_it_comes(live: Live) -> None:
    sent: list[int] = []
    with socket.create_connection(("127.0.0.1", live.port), timeout=30) as client:
        client.sendall(
            b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: multipart/form-data; boundary=B\r\n\r\n"
        )
        chunks = endless(sent)
        while sum(sent) <= LIMIT:
            chunk = next(chunks)
            client.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        assert client.recv(65536).startswith(b"HTTP/1.1 413 ")
    assert live.stored() == []


def test_an_upload_below_the_limit_keeps_its_connection(live: Live) -> None:
    with httpx.Client() as client:
        for _ in range(2):
            answer = client.post(
                f"{live.url}/files",
                files={"file": ("a", b"x" * LIMIT)},
                data={"purpose": "fine-tune"},
            )
            assert answer.status_code == 200
            assert answer.headers.get("connection") != "close"


def test_a_connection_that_breaks_off_leaves_nothing(live: Live) -> None:
    with socket.create_connection(("127.0.0.1", live.port), timeout=30) as client:
        client.sendall(
            b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500000\r\n"
            b"Content-Type: multipart/form-data; boundary=B\r\n\r\n" + HEAD + b"x" * 200_000
        )
    answer = httpx.get(f"{live.url}/files")
    assert answer.json()["data"] == []
    deadline = time.monotonic() + 30
    while live.stored():
        assert time.monotonic() < deadline
        time.sleep(0.01)
