"""The lines of a job's log, which OpenAI's API does not have."""

from __future__ import annotations

from typing import Literal, Self

from tunesmith.domain.events import LogLine
from tunesmith.domain.values import Page
from tunesmith.protocol.wire import Wire


class LogLineObject(Wire):
    """A line that a job's training process logged or printed."""

    object: Literal["fine_tuning.job.log_line"] = "fine_tuning.job.log_line"
    """Tells the kinds of objects apart."""
    id: str
    """Its place in the log of this job, a number."""
    text: str
    """Time (UTC), attempt, rank, node, level, message."""

    @classmethod
    def to_wire(cls, line: LogLine) -> Self:
        """Return `line` as clients see it."""
        return cls(id=str(line.end), text=line.text)


class LogLineList(Wire):
    """Some lines of a job's log."""

    object: Literal["list"] = "list"
    """Tells the kinds of objects apart."""
    data: list[LogLineObject]
    """The lines, oldest first."""
    has_more: bool
    """Whether newer ones are there already."""

    @classmethod
    def to_wire(cls, page: Page[LogLine]) -> Self:
        """Return `page` as clients see it."""
        return cls(data=[LogLineObject.to_wire(e) for e in page.items], has_more=page.has_more)
