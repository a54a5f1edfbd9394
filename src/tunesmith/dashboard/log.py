"""A job's log, read while it is open on the page."""

from __future__ import annotations

from collections import deque

from nicegui import ui

from tunesmith.dashboard.door import Door, RefusedError, Thing, job_path
from tunesmith.dashboard.parts import Tag, panel

_TAIL = 200
_MOST = 1000
"""Lines that stay on the page."""
_PAUSE = 2.0


def log_panel(door: Door, job: Thing) -> None:
    """Add the log of `job`, closed at first."""
    with panel("Log"), Tag("details") as details:
        Tag("summary", "What the training processes print")
        shown = Tag(
            "pre", "…", classes="code log wrapped", tabindex="0", role="log", aria_label="Log"
        )
    lines: deque[str] = deque(maxlen=_MOST)
    place: dict[str, object] = {}

    async def look() -> None:
        asked = {"after": place["last"]} if place else {"tail": _TAIL}
        try:
            page = await door.get(job_path(job["id"], "logs"), **asked)
        except RefusedError as refused:
            shown.say(refused.message)
            return
        for line in page["data"]:
            lines.append(line["text"])
            place["last"] = line["id"]
        shown.say("\n".join(lines) or "Nothing is printed yet.")

    timer = ui.timer(_PAUSE, look, active=False, immediate=False)

    async def opened(is_open: object) -> None:
        timer.active = bool(is_open)
        if is_open:
            await look()

    details.on(
        "toggle", lambda told: opened(told.args), js_handler="(event) => emit(event.target.open)"
    )
