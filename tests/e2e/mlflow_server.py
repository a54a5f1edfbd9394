"""Runs a real MLflow server, which has an environment of its own beside ours."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from e2e.service import until

COMMAND = Path(__file__).parents[2] / ".venv" / "peers" / "mlflow" / "bin" / "mlflow"
"""What `make test` installs."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Run a server while the block lasts, with its data in `folder`; yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [
                *(str(COMMAND), "server", "--host", "127.0.0.1", "--port", str(port)),
                *("--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
                *("--default-artifact-root", str(folder / "artifacts")),
            ],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ
            | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )
    try:
        until(lambda: _answers(process, address), 120)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(process: subprocess.Popen[bytes], address: str) -> bool:
    assert process.poll() is None
    try:
        return httpx.get(f"{address}/health").is_success
    except httpx.TransportError:
        return False
