"""The course of a job, as its events tell it."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence

from tunesmith.cli.service import Object
from tunesmith.cli.shown import duration

_BLOCKS = " ▁▂▃▄▅▆▇█"
_MESSAGES = 5


class Course:
    """What a job's events have told so far."""

    def __init__(self, job_id: str) -> None:
        """Begin with nothing known."""
        self.job_id = job_id
        self.model = ""
        self.status = "unknown"
        self.waits = ""
        self.step = 0
        self.total = 0
        self.seconds_left: float | None = None
        self.losses: list[tuple[int, float]] = []
        self.held_out: float | None = None
        self.news: list[Object] = []
        self.messages: deque[str] = deque(maxlen=_MESSAGES)

    def take(self, job: Object, events: Sequence[Object]) -> None:
        """Take in what a look at the job found."""
        self.status, self.model = job["status"], job["model"]
        self.news = list(events)
        self.waits = (job.get("queue") or {}).get("reason", "")
        for event in events:
            if event["type"] == "metrics" and event["data"]:
                self._take_step(event["data"])
            else:
                self.messages.append(event["message"])

    def _take_step(self, data: Object) -> None:
        self.step, self.total = data["step"], data["total_steps"]
        self.seconds_left = data.get("seconds_left")
        # A run that was interrupted takes some steps again.
        while self.losses and self.losses[-1][0] >= self.step:
            self.losses.pop()
        self.losses.append((self.step, data["train_loss"]))
        if data.get("valid_loss") is not None:
            self.held_out = data["valid_loss"]

    @property
    def headline(self) -> str:
        """Return where the job stands, in one line."""
        waits = f" ({self.waits})" if self.waits and self.status == "queued" else ""
        return f"{self.job_id}  {self.model}  {self.status}{waits}"

    @property
    def numbers(self) -> str:
        """Return the step, the loss and the time left, in one line; empty before the first step."""
        if not self.losses:
            return ""
        parts = [f"step {self.step:,}/{self.total:,}", f"loss {self.losses[-1][1]:.4f}"]
        if self.held_out is not None:
            parts.append(f"held out {self.held_out:.4f}")
        if self.seconds_left is not None and self.status == "running":
            parts.append(f"about {duration(self.seconds_left)} left")
        return "  ".join(parts)


def curve(losses: Sequence[float], *, width: int, height: int) -> list[str]:
    """Return the losses as a curve of text: `height` lines of at most `width` characters.

    More losses than characters are averaged; fewer than two make no curve.
    """
    if len(losses) < 2 or width < 1:
        return []
    columns = min(width, len(losses))
    edges = [index * len(losses) // columns for index in range(columns + 1)]
    means = [sum(losses[begin:end]) / (end - begin) for begin, end in itertools.pairwise(edges)]
    least, most = min(means), max(means)
    eighths = height * 8 - 1
    levels = [
        1 + round((mean - least) / (most - least) * eighths) if most > least else 1
        for mean in means
    ]
    return [
        "".join(_BLOCKS[min(8, max(0, level - row * 8))] for level in levels).rstrip()
        for row in reversed(range(height))
    ]
