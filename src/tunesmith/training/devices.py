"""What differs between the devices that models are trained on; all else is the same for each.

Micro-batches and losses are on the processor for every device: `Network` alone sends tokens to the
device, and brings back what comes of them.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import deterministic

from tunesmith.domain.devices import Device
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.spec import Precision
from tunesmith.training.failures import RunFailedError
from tunesmith.training.pieces import CACHED, LARGE, Pieces

_SHORTEST = 256
"""Tokens that the shortest row has on a device that compiles each shape anew."""


@dataclass(frozen=True)
class Rules:
    """What one kind of device needs."""

    device: Device
    """Which kind."""
    backend: str
    """What carries gradients between workers, and by gloo, words: as torch's process group takes
    it, https://docs.pytorch.org/docs/stable/distributed.html."""
    module: str | None = None
    """What must be imported for torch to know the device; `None` where torch does by itself."""
    beside: tuple[str, ...] = ()
    """What must be imported besides where several workers train."""
    most_tokens: int | None = 4096
    """Most tokens that go through the model at once; `None` means the usual number, which suits
    the caches of processors."""
    pieces: Pieces = LARGE
    """How much is worked on at once."""
    fixed_shapes: bool = False
    """Whether each new shape of a tensor is compiled anew, so that there may be but a few."""

    def prepare(self, *, workers: int) -> None:
        """Let torch know the device. Raises `ImportError` where what it needs is not installed."""
        for name in (self.module, *(self.beside if workers > 1 else ())):
            if name is not None:
                importlib.import_module(name)


RULES = {
    each.device: each
    for each in (
        Rules(Device.CPU, "gloo", most_tokens=None, pieces=CACHED),
        Rules(Device.CUDA, "cpu:gloo,cuda:nccl"),
        Rules(
            Device.HPU,
            "cpu:gloo,hpu:hccl",
            # https://docs.habana.ai/en/latest/PyTorch/PyTorch_Model_Porting/index.html
            module="habana_frameworks.torch.core",
            beside=("habana_frameworks.torch.distributed.hccl",),
            fixed_shapes=True,
        ),
        Rules(Device.XPU, "cpu:gloo,xpu:xccl"),
    )
}
"""The rules of each device."""


@dataclass(frozen=True)
class Place:
    """The device that this process trains on."""

    rules: Rules
    """What its kind needs."""
    name: torch.device
    """Torch's name of it."""

    @property
    def is_cpu(self) -> bool:
        """Whether it is the processor itself."""
        return self.rules.device is Device.CPU

    def precision(self, asked: Precision) -> Precision:
        """Return what `asked` means here: never `auto`."""
        if asked is not Precision.AUTO:
            return asked
        return Precision.BF16 if self._multiplies_bf16() else Precision.FP32

    def row(self, tokens: int) -> int:
        """Return how long a row for so many tokens is, or how many rows there are for so many.

        Where shapes are to be few, it is the next power of two.
        """
        return 1 << (tokens - 1).bit_length() if self.rules.fixed_shapes else tokens

    def packed_row(self, tokens: int) -> int:
        """Return how long the one row is in which packed texts of so many tokens stand."""
        return max(self.row(tokens), _SHORTEST) if self.rules.fixed_shapes else tokens

    def mark_step(self) -> None:
        """Let what was asked of the device until now be done: some gather it, until they are told.

        https://docs.habana.ai/en/latest/PyTorch/Reference/PyTorch_Gaudi_Theory_of_Operations.html
        """
        if self.rules.device is Device.HPU:
            importlib.import_module("habana_frameworks.torch.core").mark_step()

    def forget(self) -> None:
        """Give back memory that is kept in case it is wanted again, where that can be told."""
        if not self.is_cpu and hasattr(torch.get_device_module(self.name), "empty_cache"):
            self._own("empty_cache")

    def seed(self, seed: int) -> None:
        """Let all generators that dropout draws from begin at `seed`."""
        torch.manual_seed(seed)
        # Torch itself passes over those of Gaudi.
        if self.rules.device is Device.HPU:
            self._own("manual_seed_all", seed)

    def random_state(self) -> list[torch.Tensor]:
        """Return the state of the generators that dropout draws from."""
        states = [torch.get_rng_state()]
        return states if self.is_cpu else [*states, self._own("get_rng_state")]

    def set_random_state(self, states: list[torch.Tensor]) -> None:
        """Let the generators draw again what they drew after `random_state`."""
        torch.set_rng_state(states[0])
        if not self.is_cpu:
            self._own("set_rng_state", states[1])

    def peak_memory(self) -> int | None:
        """Return the most bytes of the device's own memory that were taken; `None` for the CPU."""
        return None if self.is_cpu else int(self._own("max_memory_allocated"))

    def describe(self) -> str:
        """Return the device for people, such as "cuda:0 (NVIDIA L4)"; nothing for the CPU."""
        return "" if self.is_cpu else f"{self.name} ({self._own('get_device_name')})"

    def _multiplies_bf16(self) -> bool:
        match self.rules.device:
            case Device.CPU:
                return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
            case Device.CUDA:
                return bool(torch.cuda.is_bf16_supported(including_emulation=False))
            case Device.HPU | Device.XPU:
                return True

    def _own(self, name: str, *given: Any) -> Any:
        return getattr(torch.get_device_module(self.name), name)(*given)


PROCESSOR = Place(RULES[Device.CPU], torch.device("cpu"))
"""The processor."""


def find(device: Device, *, index: int = 0, workers: int = 1) -> Place:
    """Return the place of this process on `device`, the one of its node that Ray gave it.

    `index` is that of those that it sees, where it sees several. Raises `RunFailedError` with the
    code `resources_unavailable` where torch sees none.
    """
    if device is Device.CPU:
        return PROCESSOR
    rules = RULES[device]
    try:
        rules.prepare(workers=workers)
    except ImportError as error:
        raise _absent(device, f"{error}. Install what the device needs on the node") from error
    try:
        own = torch.get_device_module(torch.device(device))
        if not own.is_available():
            raise _absent(device, "torch sees none. Install the build of torch for it on the node")
        # Ray shows some kinds of workers their own one alone.
        place = Place(rules, torch.device(device, 0 if own.device_count() == 1 else index))
        own.set_device(place.name)
    except (RuntimeError, AttributeError) as error:
        raise _absent(device, f"{error}. Look at the node's driver") from error
    if device is Device.CUDA:
        # So that the same spec makes the same adapter as far as it can: where torch has no such way
        # for an operation, it says so and does it all the same.
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
        deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return place


def _absent(device: Device, why: str) -> RunFailedError:
    return RunFailedError(
        FailureCode.RESOURCES_UNAVAILABLE,
        f"The node that Ray gave the job cannot train on '{device}': {why}, or choose another "
        "device.",
        param="device",
        change={"device": Device.CPU.value},
    )
