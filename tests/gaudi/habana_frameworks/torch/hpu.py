"""What torch and Ray know of the device, of which a machine has two."""

from __future__ import annotations

import os
from typing import Any

import torch

from habana_frameworks.torch import kernels


def __getattr__(name: str) -> Any:
    # Streams and events mean as much as those of the processor.
    return getattr(torch.cpu, name)


def is_available() -> bool:
    return True


def is_initialized() -> bool:
    return True


def device_count() -> int:
    """Ray names those that a process may see."""
    visible = os.environ.get("HABANA_VISIBLE_MODULES")
    return 2 if visible is None else len([name for name in visible.split(",") if name])


def current_device() -> int:
    return 0


def set_device(device: object) -> None:
    """Each process has but one."""


def get_device_name() -> str:
    return "stand-in"


def synchronize() -> None:
    """All is done at once."""


def max_memory_allocated() -> int:
    return int(kernels.max_memory_allocated())


def get_rng_state() -> torch.Tensor:
    # What is drawn is drawn by the processor.
    return torch.get_rng_state()


def set_rng_state(state: torch.Tensor) -> None:
    torch.set_rng_state(state)


def manual_seed_all(seed: int) -> None:
    """The processor is seeded already."""


def get_amp_supported_dtype() -> list[torch.dtype]:
    return [torch.bfloat16]


def _lazy_init() -> None:
    """It is ready."""


def _is_in_bad_fork() -> bool:
    return False
