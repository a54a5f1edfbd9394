"""Signs of life, by which one process knows of another through the store."""

from __future__ import annotations

from tunesmith.domain.values import Value

CONTROLLER = "controller"
"""Name of the controller's sign."""

BEAT = 5
"""Seconds between two signs of a process that is alive."""

PATIENCE = 30
"""Seconds without a sign after which a process is taken for dead."""


class SignOfLife(Value):
    """The last that was seen of a process."""

    process: str
    """Which one."""
    at: int
    """Unix seconds."""
    cluster_up: bool
    """Whether the cluster answered it then."""
