"""What a job may be trained on."""

from __future__ import annotations

from enum import StrEnum


class Device(StrEnum):
    """A kind of device, by torch's name of it."""

    CPU = "cpu"
    """Processors."""
    CUDA = "cuda"
    """Graphics cards by CUDA or ROCm."""
    HPU = "hpu"
    """Gaudi."""
    XPU = "xpu"
    """Intel's graphics cards."""

    @property
    def resource(self) -> str | None:
        """Ray's name of what each worker holds one of; `None` where it holds processors alone.

        https://docs.ray.io/en/latest/ray-core/scheduling/accelerators.html
        """
        return _RESOURCES[self]


_RESOURCES = {Device.CPU: None, Device.CUDA: "GPU", Device.HPU: "HPU", Device.XPU: "GPU"}

DEVICES = tuple(sorted({name for name in _RESOURCES.values() if name is not None}))
"""Ray's names of all devices that are no processors."""
