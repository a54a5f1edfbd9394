"""Whether the service can do its work."""

from __future__ import annotations

from typing import Literal

from tunesmith.protocol.wire import Wire


class ReadyObject(Wire):
    """What the service needs to run jobs, and what of it is missing."""

    status: Literal["ready", "unready"]
    """`unready` where anything is missing."""
    store: bool
    """Whether the database answers."""
    controller: bool
    """Whether the controller has given a sign of life within the last 30 s."""
    cluster: bool
    """Whether Ray answered the controller then."""
    standby: bool
    """Whether a second controller stands by, to take over from the one that leads."""
    disk: bool
    """Whether the disk has more room than is kept free, so that files and jobs are taken."""
    missing: list[str]
    """What is missing, in words."""
