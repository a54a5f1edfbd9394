"""Lets torch know a device `hpu` that is in truth the processor, as Habana's bridge does for Gaudi.

What would not work on a device with its own memory is refused all the same: tensors of two devices
in one operation. How often steps are marked, and which shapes products have, is counted.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import torch
from torch.utils import cpp_extension

kernels = cpp_extension.load(
    "hpu_stand_in",
    [str(Path(__file__).with_name("kernels.cpp"))],
    extra_cflags=["-O1", "-w"],
)
"""The operations."""

sys.modules["torch.hpu"] = importlib.import_module("habana_frameworks.torch.hpu")
torch.__dict__["hpu"] = sys.modules["torch.hpu"]
