"""What each peer is asked, and what it writes down of its steps; in the peer's own environment.

A peer's script is called with the path of a JSON file, the task: `model`, a folder; `rows`, JSON
lines; `output`, where the result and `steps.json` go; `batch`, `length`, `rate`, `epochs` and
`rank`; `bf16`, without which it computes in fp32; `threads`; and what a script says besides.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

BEGUN = time.perf_counter()
"""When the process began, nearly."""


def read() -> dict[str, Any]:
    """Return the task that the command line names, and take as many threads as it allows."""
    task: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(task["threads"])
    return task


def trainer_arguments(task: dict[str, Any], *, at_once: int) -> dict[str, Any]:
    """Return what each trainer made of transformers' own is told, with `at_once` rows at a time."""
    return {
        "output_dir": task["output"],
        "use_cpu": True,
        "bf16": task["bf16"],
        "per_device_train_batch_size": at_once,
        "learning_rate": task["rate"],
        "num_train_epochs": task["epochs"],
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "seed": 1,
    }


def weights_of(task: dict[str, Any]) -> str:
    """Return torch's name of the precision in which the frozen weights are held."""
    return "bfloat16" if task["bf16"] else "float32"


def adapter(task: dict[str, Any]) -> Any:
    """Return the config of an adapter on all linear layers, for peft."""
    from peft import LoraConfig  # noqa: PLC0415  not every peer has it

    return LoraConfig(
        r=task["rank"],
        lora_alpha=2 * task["rank"],
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


class StepTimes(TrainerCallback):  # type: ignore[misc]
    """Notes when training began and when each optimizer step ended, in seconds since `BEGUN`."""

    def __init__(self) -> None:
        """Note nothing yet."""
        self._begun = 0.0
        self._ends: list[float] = []
        self._losses: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Note the beginning of the first step."""
        self._begun = time.perf_counter() - BEGUN

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note the end of a step."""
        self._ends.append(time.perf_counter() - BEGUN)

    def on_log(self, *given: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Note the loss of a step."""
        if logs and "loss" in logs:
            self._losses.append(float(logs["loss"]))

    def write(self, task: dict[str, Any]) -> None:
        """Write all to `steps.json` beside the result."""
        told = {"begun": self._begun, "ends": self._ends, "losses": self._losses}
        (Path(task["output"]) / "steps.json").write_text(json.dumps(told), encoding="utf-8")
