"""Shows a run's metrics on Weights & Biases.

`WANDB_API_KEY` and `WANDB_MODE` come from the environment of the node, where
wandb itself reads them.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.spec import TrainSpec
from tunesmith.domain.tracking import WandbIntegration
from tunesmith.training.board import SUCCEEDED, Point, config

_LIMITS = {"init_timeout": 15.0, "login_timeout": 15.0, "finish_timeout": 15.0}
"""Seconds that a step of wandb may take."""

_QUIET = {
    "console": "off",
    "silent": True,
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "symlink": False,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
    "finish_timeout_raises": True,
}
"""Nothing but the metrics leaves the node, and nothing goes to the log."""


_TAG = 64
"""Characters of the longest tag that wandb takes."""


class WandbBoard:
    """A run of one of Weights & Biases' projects, the same one in each attempt."""

    name = "Weights & Biases"

    def __init__(
        self, spec: TrainSpec, integration: WandbIntegration, *, number: int, folder: Path
    ) -> None:
        """Show the run of `spec` as its integration `number`, from 1; write into `folder`."""
        self.place = f"the project '{integration.project}'"
        self._spec = spec
        self._integration = integration
        self._number = number
        self._folder = folder
        self._run: Any = None

    def open(self, history: Sequence[Point]) -> None:
        """Open the run, and show of `history` what it has not."""
        self._run = self._init()
        for point in history:
            self.step(point)

    def step(self, point: Point) -> None:
        """Show one step more."""
        # A run that is resumed takes no step again that it has.
        if point.step >= self._run.step:
            self._run.log(point.numbers, step=point.step)

    def stopped(self) -> None:
        """Leave it to the service, which sees that nothing comes any more."""

    def close(self, outcome: str) -> None:
        """End the run with `outcome`."""
        self._run.summary["outcome"] = outcome
        self._run.finish(exit_code=0 if outcome == SUCCEEDED else 1)

    def mend(self, error: BaseException) -> str:
        """Return what is to be done about `error`."""
        if isinstance(error, ModuleNotFoundError):
            return "Install the package 'wandb' on the nodes."
        return (
            "Check WANDB_API_KEY, WANDB_MODE and the network of the nodes, and the project's name."
        )

    def _init(self) -> Any:
        library = importlib.import_module("wandb")
        spec, integration, number = self._spec, self._integration, self._number
        base = spec.base_model.name
        tags = ("openai/finetune", f"openai/{base}", f"openai/{spec.job_id}", *integration.tags)
        return library.init(
            # wandb keeps no two runs of one id in a process, be it in different projects.
            id=spec.job_id if number == 1 else f"{spec.job_id}-{number}",
            resume="allow",
            reinit="create_new",
            project=integration.project,
            entity=integration.entity,
            name=integration.name or spec.job_id,
            tags=[tag[:_TAG] for tag in tags],
            config=config(spec),
            dir=self._folder,
            settings=library.Settings(**_LIMITS, **_QUIET),
        )


def keep_offline(run: RunDirectory, folder: Path) -> None:
    """Keep in the run directory what wandb wrote into `folder` to be sent later, if anything."""
    if not any(folder.glob("wandb/offline-run-*")):
        return
    for logs in folder.glob("wandb/*/logs"):
        shutil.rmtree(logs)
    run.save_wandb(folder / "wandb")
