"""A job's events: the list, and the stream that lengthens it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field

from nicegui import background_tasks

from tunesmith.dashboard.door import Door, RefusedError, Thing, job_path
from tunesmith.dashboard.parts import Tag, button, cell, stop_with, table
from tunesmith.dashboard.words import ENDED, moment

_log = logging.getLogger(__name__)

_PAGE = 50
_MOST = 200
"""Rows that stay on the page while new ones come."""
_PAUSE = 2.0
"""Seconds before a stream that broke off is opened again."""


class EventRows:
    """The rows of the list, newest first."""

    def __init__(self, door: Door, job_id: str) -> None:
        """Place an empty list."""
        self._door = door
        self._job_id = job_id
        self._rows: deque[Tag] = deque()
        self._oldest: str | None = None
        with table(
            "Events, newest first", ("Time", "Level", "What happened"), classes="log"
        ) as body:
            self._body = body
        self._older = button("Older events", self._add_older)

    def fill(self, page: Thing) -> None:
        """Add a page of older events below."""
        for event in page["data"]:
            self._rows.append(self._row(event))
            self._oldest = event["id"]
        self._older.give(hidden=None if page["has_more"] else True)

    def add(self, events: list[Thing]) -> None:
        """Add new events, oldest first, above; the oldest rows make room."""
        for event in events[-_MOST:]:
            row = self._row(event)
            row.move(target_index=0)
            self._rows.appendleft(row)
        if len(self._rows) > _MOST:
            while len(self._rows) > _MOST:
                self._rows.pop().delete()
            self._older.give(hidden=True)

    async def _add_older(self) -> None:
        page = await self._door.get(
            job_path(self._job_id, "events"), limit=_PAGE, after=self._oldest
        )
        self.fill(page)

    def _row(self, event: Thing) -> Tag:
        level = event["level"]
        with self._body, Tag("tr") as row:
            cell("Time", moment(event["created_at"]), classes="quiet figure")
            with cell("Level"):
                kind = {"warn": "is-warn", "error": "is-bad"}.get(level, "")
                Tag("span", level, classes=f"badge {kind}")
            cell("What happened", event["message"])
        return row


@dataclass
class Follower:
    """Hears what a job tells, for as long as somebody looks."""

    door: Door
    """The API."""
    job_id: str
    """The job."""
    last: str | None
    """Id of the last event that is known."""
    _heard: list[Thing] = field(default_factory=list)

    def start(self) -> None:
        """Begin, and end with the page."""
        stop_with(background_tasks.create(self._follow(), name=f"follow {self.job_id}"))

    def taken(self) -> list[Thing]:
        """Return what was heard since the last time, oldest first."""
        heard, self._heard = self._heard, []
        return heard

    async def _follow(self) -> None:
        while True:
            try:
                async for event in self.door.events_behind(self.job_id, self.last):
                    self._heard.append(event)
                    self.last = event["id"]
                job = await self.door.get(job_path(self.job_id))
                if job["status"] in ENDED:
                    return
            except RefusedError as refused:
                if refused.status in (401, 403, 404):
                    return
            except Exception:  # noqa: BLE001  the edge of this loop; a stream may break off anyhow
                _log.debug("The events of %s broke off; they are asked for again.", self.job_id)
            await asyncio.sleep(_PAUSE)
