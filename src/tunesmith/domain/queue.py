"""Why a job waits: its place in the queue, what it lacks, and who has it."""

from __future__ import annotations

from tunesmith.domain.values import Value


class Holder(Value):
    """A job that holds what another one waits for."""

    job_id: str
    """Which job."""
    project: str
    """Whose it is; only the same project is told its id."""
    resources: dict[str, float]
    """What it holds, by Ray's names of the resources; `memory` in bytes."""
    until: int | None
    """Unix seconds at which it should end; `None` where nothing says so."""


class Wait(Value):
    """Why a job of the queue has not been launched."""

    job_id: str
    """Which job."""
    position: int
    """Its place in the queue, from 1."""
    reason: str
    """A sentence for people."""
    missing: dict[str, float]
    """What it lacks on the node that comes nearest to holding it, by Ray's names of the resources;
    nothing where it waits for its turn alone."""
    held_by: tuple[Holder, ...]
    """Who holds what the queue waits for, the first to end first; a few at the most."""
    expected_start: int | None
    """Unix seconds at which it should be launched, as far as the running jobs tell."""
