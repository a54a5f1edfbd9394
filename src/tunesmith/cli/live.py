"""Shows a job's course: live on a terminal, as plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import typer

from tunesmith.cli.course import Course, curve
from tunesmith.cli.shown import clock

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.live import Live

_HEIGHT = 6
_WIDEST = 100


class Display(Protocol):
    """What shows the course."""

    def show(self) -> None:
        """Show the course as it is by now."""


@contextmanager
def open_display(course: Course, *, silent: bool) -> Iterator[Display]:
    """Yield what shows `course` on standard output: nothing at all where it is to be `silent`."""
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    if silent:
        yield _Silence()
    elif not console.is_terminal:
        yield _Lines(course)
    else:
        with Live(console=console, auto_refresh=False) as live:
            yield _Picture(course, live)


class _Silence:
    """Shows nothing."""

    def show(self) -> None:
        """Show nothing."""


class _Lines:
    """Prints each event as a line."""

    def __init__(self, course: Course) -> None:
        """Print what `course` was told."""
        self._course = course

    def show(self) -> None:
        """Print the new events."""
        for event in self._course.news:
            typer.echo(f"{clock(event['created_at'])}  {event['message']}")


class _Picture:
    """Draws bar, curve and newest events, in place."""

    def __init__(self, course: Course, live: Live) -> None:
        """Draw `course` by `live`."""
        self._course, self._live = course, live

    def show(self) -> None:
        """Draw the course anew."""
        self._live.update(picture(self._course, self._live.console), refresh=True)


def picture(course: Course, console: Console) -> Group:
    """Return the course as what `console` can print."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    width = min(console.width, _WIDEST) - 10
    parts: list[Text | Padding] = [Text(course.headline, style="bold")]
    if course.losses:
        bar = ProgressBar(total=course.total, completed=course.step, width=width + 10)
        # A bar alone does not end its line.
        parts.append(Padding(bar, 0))
        parts.append(Text(course.numbers))
    losses = [loss for _, loss in course.losses]
    rows = curve(losses, width=width, height=_HEIGHT)
    marks = {0: f"{max(losses):.3f}", _HEIGHT - 1: f"{min(losses):.3f}"} if rows else {}
    parts += [
        Text(f"{marks.get(n, ''):>8} ") + Text(row, style="cyan") for n, row in enumerate(rows)
    ]
    parts += [Text(message, style="dim") for message in course.messages]
    return Group(*parts)
