"""How long what nobody uses any more is kept."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.domain.events import Checkpoint
from tunesmith.domain.values import Value

DAY = 24 * 3600
"""Seconds of a day."""


class Retention(Value):
    """The days after which things go; `None` keeps them."""

    events_days: int | None = None
    """Days after a job's end, for its metrics events."""
    checkpoints_days: int | None = None
    """Days after a job's end, for its checkpoints, but for the last and the best."""
    files_days: int | None = None
    """Days after its upload, and after the end of the last job that used it, for a file."""
    exports_days: int | None = None
    """Days after its end, for an export with its files."""


def spare(checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Return those of a job's checkpoints that may go: all but the last and the best.

    The best is that with the least loss on held-out lines; where none was measured, there is none.
    """
    if not checkpoints:
        return []
    kept = {max(checkpoints, key=lambda each: each.step).step}
    losses = {
        each.step: each.metrics.valid_loss
        for each in checkpoints
        if each.metrics.valid_loss is not None
    }
    if losses:
        kept.add(min(losses, key=lambda step: losses[step]))
    return [each for each in checkpoints if each.step not in kept]
