"""What each peer writes down of its steps; it runs in the peer's own environment."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

BEGUN = time.perf_counter()
"""When the process began, nearly."""


class StepTimes(TrainerCallback):  # type: ignore[misc]
    """Notes when each optimizer step began and ended, in seconds since the process began."""

    def __init__(self) -> None:
        """Note nothing yet."""
        self._ends: list[float] = []
        self._losses: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note the end of a step."""
        self._ends.append(time.perf_counter() - BEGUN)

    def on_log(self, *given: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Note the loss of a step."""
        if logs and "loss" in logs:
            self._losses.append(logs["loss"])

    def write(self, path: Path) -> None:
        """Write all to `path` as JSON, with the most memory that the process held, in MB."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        told = {"ends": self._ends, "losses": self._losses, "peak_mb": peak}
        path.write_text(json.dumps(told), encoding="utf-8")
