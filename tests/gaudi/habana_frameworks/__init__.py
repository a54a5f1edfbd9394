"""A stand-in for Habana's own package of this name, for machines without Gaudi."""

from __future__ import annotations

import importlib


def plug_in() -> None:
    """Let torch know the device; torch calls this when it is imported, as its entry point says."""
    importlib.import_module("habana_frameworks.torch")
