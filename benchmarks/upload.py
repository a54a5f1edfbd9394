"""How fast a large file is uploaded over loopback, against `cp` plus `sha256sum` of the same file.

The service runs in a process of its own; the client sends the file as cheaply as a client can.
Prints the medians of several rounds, side by side, and by how much the service's memory grew.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from server import running_server

MEGABYTES = 1024
"""Size of the file, in MiB."""
ROUNDS = 3
PART = 64 * 1024**2
_BOUNDARY = "tunesmith-benchmark"
_ALLOWED = "TUNESMITH_MAX_UPLOAD_BYTES"


@dataclass
class Figures:
    """What one way of storing the file took, round by round."""

    name: str
    """What was done."""
    seconds: list[float] = field(default_factory=list)
    """How long it took."""

    def add(self, work: Callable[[], object]) -> None:
        """Do `work` and note how long it took."""
        began = time.perf_counter()
        work()
        self.seconds.append(time.perf_counter() - began)

    def median(self) -> float:
        """Return the median of the rounds, in seconds."""
        return statistics.median(self.seconds)


def main() -> dict[str, float]:
    """Store a file both ways, print the figures and return them."""
    arguments = _arguments()
    os.environ[_ALLOWED] = str(2 * arguments.megabytes * 1024**2)
    plain, whole, parts = Figures("cp + sha256sum"), Figures("POST /v1/files"), Figures("in parts")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        source, small = Path(folder) / "source", Path(folder) / "small"
        _fill(source, megabytes=arguments.megabytes)
        _fill(small, megabytes=4)
        with running_server(Path(folder) / "data") as server, _Client(server.port) as client:
            for upload in (client.upload, client.upload_in_parts):
                client.delete(upload(small))
            with _watched(server.pid) as growth:
                for _ in range(arguments.rounds):
                    plain.add(lambda: _copy_and_hash(source))
                    whole.add(lambda: client.kept.append(client.upload(source)))
                    client.delete(client.kept.pop())
                    parts.add(lambda: client.kept.append(client.upload_in_parts(source)))
                    client.delete(client.kept.pop())
    for each in (plain, whole, parts):
        rate = arguments.megabytes / each.median()
        print(f"{each.name:15} {each.median():6.2f} s {rate:7.0f} MiB/s")
    print(f"memory of the service grew by {growth[0]:.1f} MB at the most")
    return {
        "upload_vs_cp_sha256": plain.median() / whole.median(),
        "upload_parts_vs_cp_sha256": plain.median() / parts.median(),
        "upload_growth_mb": growth[0],
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", help="where the files lie, on the disk that is measured")
    parser.add_argument("--megabytes", type=int, default=MEGABYTES, help="size of the file, MiB")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each is done")
    return parser.parse_args()


def _fill(path: Path, *, megabytes: int) -> None:
    """Write random bytes, so that neither the disk nor the network can save any."""
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(1024**2))
        os.fsync(file.fileno())


def _copy_and_hash(source: Path) -> None:
    copy = source.with_name("copy")
    subprocess.run(["cp", str(source), str(copy)], check=True)
    subprocess.run(["sha256sum", str(source)], check=True, stdout=subprocess.DEVNULL)
    copy.unlink()


class _Client:
    """Sends files from the disk to the socket without touching their bytes."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._pool = ThreadPoolExecutor(4)
        self.kept: list[str] = []

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def upload(self, path: Path) -> str:
        """Upload the file in one request and return its id."""
        fields = {"purpose": "fine-tune"}
        file_id: str = self._send("/v1/files", path, name="file", fields=fields)["id"]
        return file_id

    def upload_in_parts(self, path: Path) -> str:
        """Upload the file in parts, four at a time, and return its id."""
        size = path.stat().st_size
        announced = {"filename": "a", "purpose": "fine-tune", "mime_type": "text/plain"}
        upload = self._ask("POST", "/v1/uploads", body={**announced, "bytes": size})["id"]

        def send(offset: int) -> str:
            count = min(PART, size - offset)
            path_of_parts = f"/v1/uploads/{upload}/parts"
            sent = self._send(path_of_parts, path, name="data", offset=offset, count=count)
            part_id: str = sent["id"]
            return part_id

        part_ids = list(self._pool.map(send, range(0, size, PART)))
        done = self._ask("POST", f"/v1/uploads/{upload}/complete", body={"part_ids": part_ids})
        file_id: str = done["file"]["id"]
        return file_id

    def delete(self, file_id: str) -> None:
        """Delete the file, so that the next round stores it anew."""
        self._ask("DELETE", f"/v1/files/{file_id}")

    def _ask(self, method: str, path: str, *, body: dict[str, Any] | None = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=600)
        headers = {"Content-Type": "application/json"} if body else {}
        connection.request(method, path, json.dumps(body) if body else None, headers)
        return _answer(connection)

    def _send(
        self,
        path: str,
        source: Path,
        *,
        name: str,
        fields: dict[str, str] | None = None,
        offset: int = 0,
        count: int | None = None,
    ) -> Any:
        count = source.stat().st_size if count is None else count
        head = "".join(
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
            for key, value in (fields or {}).items()
        )
        head += f"--{_BOUNDARY}\r\nContent-Disposition: form-data; "
        head += f'name="{name}"; filename="a.jsonl"\r\n\r\n'
        tail = f"\r\n--{_BOUNDARY}--\r\n".encode()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=600)
        connection.putrequest("POST", path)
        connection.putheader("Content-Type", f"multipart/form-data; boundary={_BOUNDARY}")
        connection.putheader("Content-Length", str(len(head) + count + len(tail)))
        connection.endheaders(head.encode())
        with source.open("rb") as file:
            connection.sock.sendfile(file, offset, count)
        connection.send(tail)
        return _answer(connection)


def _answer(connection: http.client.HTTPConnection) -> Any:
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200:
        sys.exit(f"The service answered {answer.status}: {body.decode()}")
    return json.loads(body)


@contextmanager
def _watched(pid: int) -> Iterator[list[float]]:
    """Yield a list whose only entry is the growth of the process's memory so far, in MB."""
    process = psutil.Process(pid)
    before = process.memory_info().rss
    growth, stop = [0.0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            growth[0] = max(growth[0], (process.memory_info().rss - before) / 1e6)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield growth
    finally:
        stop.set()
        watcher.join()


if __name__ == "__main__":
    print(json.dumps(main()))
