"""The service in a process of its own, as `tunesmith serve` runs it, with or without a Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    port: int
    """Its port on loopback."""
    pid: int
    """The process that answers."""


@contextmanager
def running_server(data: Path, *, ray: bool = False) -> Iterator[Server]:
    """Run `tunesmith serve` on `data`, with a Ray of its own or none; end it at the block's end."""
    address = "" if ray else "http://127.0.0.1:9"
    environment = os.environ | {"RAY_ADDRESS": address, "TUNESMITH_LOG_LEVEL": "error"}
    command = [sys.executable, "-m", "tunesmith.cli.main", "serve", "--data", str(data)]
    command += ["--port", "0"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        yield Server(_port(process), process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _port(process: subprocess.Popen[str]) -> int:
    """Return the port from the line that the server prints, once it answers there."""
    assert process.stdout is not None
    line = process.stdout.readline()
    port = int(line.partition("/v1")[0].rpartition(":")[2])
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health").close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return port
