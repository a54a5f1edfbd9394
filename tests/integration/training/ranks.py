"""A process that is one rank of several, joined by gloo without Ray."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.training.group import Group, TorchLine
from tunesmith.training.run import train
from tunesmith.training.stopping import StopFlag
from tunesmith.training.supervised import Supervised
from unit.training.conftest import JOB

NARROW = "narrow"
"""In the run of this name, the last rank has room for `ROOM` tokens in a step alone."""

ROOM = 50

RESUMED = "full, resumed"
"""The run of this name was begun by one worker alone."""

FULL_DISK = "full, disk full"
"""In the run of this name, there is no room for the first checkpoint."""

BROKEN = "broken"
"""In the run of this name, the last rank finds another training file than the first."""


def take_part(
    rank: int, size: int, folders: Sequence[Path], meeting: Path, *, backend: str = "gloo"
) -> None:
    """Train the runs of all `folders`, one after another, as rank `rank` of `size`."""
    distributed.init_process_group(
        backend, init_method=f"file://{meeting}", rank=rank, world_size=size
    )
    group, last = Group(rank, size, f"node-{rank}", TorchLine()), rank == size - 1
    measure = Supervised.measure

    def measure_if_it_fits(self: Supervised, network: Any, batch: Any) -> Any:
        if batch.tokens > ROOM and torch.is_grad_enabled():
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return measure(self, network, batch)

    for folder in folders:
        narrow = last and folder.name == NARROW
        Supervised.measure = measure_if_it_fits if narrow else measure  # type: ignore[method-assign]
        artifacts = LocalArtifacts(folder)
        if last and folder.name == BROKEN:
            artifacts = _Changed(folder)
        if folder.name == FULL_DISK:
            artifacts = _Full(folder)
        run = RunDirectory(artifacts, JOB)
        attempt = 2 if folder.name == RESUMED else 1
        train(run, artifacts, attempt=attempt, stop=StopFlag(), group=group)
    distributed.destroy_process_group()


def train_run(folder: Path) -> None:
    """Train the run of `folder` in this process alone."""
    artifacts = LocalArtifacts(folder)
    train(RunDirectory(artifacts, JOB), artifacts, attempt=1, stop=StopFlag())


class _Full(LocalArtifacts):
    """Has no room for a checkpoint."""

    def put_folder(self, prefix: str, folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


class _Changed(LocalArtifacts):
    """Holds an empty training file in place of the one that was uploaded."""

    def open(self, key: str) -> Any:
        return super().open("files/empty" if key == "files/train" else key)
