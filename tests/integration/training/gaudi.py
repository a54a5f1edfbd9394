"""Processes that train on the stand-in for Gaudi, in which torch knows a device `hpu`.

Torch plugs it in, as it does Habana's packages, when it is imported: not by this module.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STAND_IN = Path(__file__).parents[2] / "gaudi"
"""Where the stand-in for Habana's packages is."""

SEEN = "seen.json"
"""In each run's folder: what the device was asked for."""


def plug_in() -> Any:
    """Let torch find the device, and return its kernels; they are compiled the first time."""
    sys.path.insert(0, str(STAND_IN))
    importlib.import_module("torch")
    return importlib.import_module("habana_frameworks.torch").kernels


def train_alone(folders: Sequence[Path]) -> None:
    """Train the runs of all `folders`, one after another."""
    kernels = plug_in()
    ranks = importlib.import_module("integration.training.ranks")
    for folder in folders:
        ranks.train_run(folder)
        seen = {"shapes": sorted(kernels.shapes()), "marked": kernels.steps_marked()}
        (folder / SEEN).write_text(json.dumps(seen))
        kernels.forget()


def take_part(rank: int, folders: Sequence[Path], meeting: Path) -> None:
    """Do as `train_alone` as rank `rank` of two, joined as Ray Train joins its workers."""
    plug_in()
    importlib.import_module("habana_frameworks.torch.distributed.hccl")
    rules = importlib.import_module("tunesmith.training.devices").RULES["hpu"]
    ranks = importlib.import_module("integration.training.ranks")
    ranks.take_part(rank, 2, folders, meeting, backend=rules.backend)
