"""The two processes of the service, each started by itself, meet in the store."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from e2e.service import COMMAND, running, until

NOWHERE = {"RAY_ADDRESS": "http://127.0.0.1:9", "RAY_AUTH_TOKEN_PATH": ""}


def ready(url: str) -> dict[str, object]:
    answer: dict[str, object] = httpx.get(f"{url}/ready").json()
    return answer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_api_alone_sees_the_controller_that_runs_alone(
    tmp_path: Path, number: signal.Signals
) -> None:
    data = tmp_path / "data"
    with running(data, NOWHERE, options=("--only", "api")) as service:
        assert not ready(service.url)["controller"]
        controller = subprocess.Popen(
            [COMMAND, "serve", "--only", "controller", "--data", str(data)],
            env=os.environ | NOWHERE,
            # What has no terminal is not told by its input's end that it is to end.
            stdin=subprocess.DEVNULL,
        )
        try:
            assert until(lambda: ready(service.url)["controller"], 30)
            assert service.process is not None
            assert not service.process.poll()
        finally:
            controller.send_signal(number)
        assert controller.wait(20) == 0
