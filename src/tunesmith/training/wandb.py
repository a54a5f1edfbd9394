"""Shows a run's metrics on Weights & Biases.

`WANDB_API_KEY` and `WANDB_MODE` come from the environment of the node, where
wandb itself reads them. Whatever goes wrong with it is told in a warning, and
training goes on: a board is no reason for a run to fail, nor to wait for long.
"""

from __future__ import annotations

import importlib
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.errors import StaleJobError
from tunesmith.domain.events import EventLevel, StepMetrics
from tunesmith.domain.spec import TrainSpec
from tunesmith.training.failures import explain
from tunesmith.training.telemetry import EventLog

_log = logging.getLogger(__name__)

_SHOWN = frozenset(
    {
        *("method", "beta", "max_length", "seed", "n_epochs", "max_steps", "batch_size"),
        *("learning_rate", "schedule", "warmup_ratio", "weight_decay", "max_grad_norm", "lora"),
        *("max_seconds", "optimizer", "ranking"),
    }
)
"""What of the spec a board shows as its config: nothing that names a path."""

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


class Boards:
    """The boards that show a run; one that fails is closed, with a warning."""

    def __init__(self, events: EventLog) -> None:
        """Show nothing yet; warn through `events`."""
        self._events = events
        self._open: dict[int, tuple[str, Any]] = {}

    def open(self, spec: TrainSpec, number: int, *, folder: Path) -> None:
        """Open the board of the integration `number` of `spec`, the same one in each attempt.

        It shows the steps told by earlier attempts as well, where it has them not.
        """
        project = spec.integrations[number].project
        with self._warning(number, project):
            library = importlib.import_module("wandb")
            board = _init(library, spec, number=number, folder=folder)
            self._open[number] = (project, board)
            for metrics in self._events.steps.values():
                _show(board, metrics)

    def step(self, metrics: StepMetrics) -> None:
        """Show the numbers of a step on all boards."""
        for number, (project, board) in tuple(self._open.items()):
            with self._warning(number, project):
                _show(board, metrics)

    def close(self, outcome: str) -> bool:
        """Close all boards with `outcome`; tell whether one wrote its data to this node alone."""
        kept = False
        for number, (project, board) in tuple(self._open.items()):
            with self._warning(number, project):
                board.summary["outcome"] = outcome
                kept = kept or board.offline
                board.finish(exit_code=0 if outcome == "succeeded" else 1)
        self._open.clear()
        return kept

    @contextmanager
    def _warning(self, number: int, project: str) -> Iterator[None]:
        """Give up the board `number`, with a warning that names `project`, if the block fails."""
        try:
            yield
        # wandb raises errors of many kinds, of its own and of the network.
        except Exception as error:  # noqa: BLE001  a loop's edge: the run goes on without a board
            self._open.pop(number, None)
            # The error's own words are not repeated: they may hold a part of the key.
            self._events.message(
                f"Weights & Biases does not show this job in the project '{project}' "
                f"({type(error).__name__}). {_mend(error)} Training goes on.",
                level=EventLevel.WARN,
            )


@contextmanager
def boards(spec: TrainSpec, run: RunDirectory, *, events: EventLog) -> Iterator[Boards]:
    """Return a context with the boards of `spec`, which are closed with how the block ends.

    What wandb writes in offline mode is kept in the run directory.
    """
    opened = Boards(events)
    if not spec.integrations:
        yield opened
        return
    with run.scratch() as folder:
        for number in range(len(spec.integrations)):
            opened.open(spec, number, folder=folder)
        try:
            yield opened
        except StaleJobError:
            # The attempt that took over goes on with the same boards.
            raise
        except Exception as error:
            _end(opened, run, outcome=str(explain(error).code), folder=folder)
            raise
        _end(opened, run, outcome="succeeded", folder=folder)


def _init(library: ModuleType, spec: TrainSpec, *, number: int, folder: Path) -> Any:
    integration = spec.integrations[number]
    base = spec.base_model.name
    config = spec.model_dump(mode="json", include=set(_SHOWN))
    tags = ("openai/finetune", f"openai/{base}", f"openai/{spec.job_id}", *integration.tags)
    return library.init(
        # wandb keeps no two runs of one id in a process, be it in different projects.
        id=spec.job_id if number == 0 else f"{spec.job_id}-{number + 1}",
        resume="allow",
        reinit="create_new",
        project=integration.project,
        entity=integration.entity,
        name=integration.name or spec.job_id,
        tags=[tag[:_TAG] for tag in tags],
        config={**config, "base_model": base, "fine_tuned_model": spec.tuned_model},
        dir=folder,
        settings=library.Settings(**_LIMITS, **_QUIET),
    )


def _show(board: Any, metrics: StepMetrics) -> None:
    # A board that is resumed takes no step again that it has.
    if metrics.step >= board.step:
        numbers = metrics.model_dump(exclude={"step", "seconds_left"}, exclude_none=True)
        board.log(numbers, step=metrics.step)


def _mend(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return "Install the package 'wandb' on the nodes."
    return "Check WANDB_API_KEY, WANDB_MODE and the network of the nodes, and the project's name."


def _end(opened: Boards, run: RunDirectory, *, outcome: str, folder: Path) -> None:
    if not opened.close(outcome):
        return
    for logs in folder.glob("wandb/*/logs"):
        shutil.rmtree(logs)
    run.save_wandb(folder / "wandb")
