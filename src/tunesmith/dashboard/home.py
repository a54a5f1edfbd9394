"""The first page: what runs, what waits and why, and what has ended of late."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from fastapi.responses import Response
from nicegui import ui

from tunesmith.dashboard.door import Door, RefusedError, Thing, job_path
from tunesmith.dashboard.frame import Site
from tunesmith.dashboard.parts import Tag, badge, cell, link, note, panel, show_badge, table
from tunesmith.dashboard.words import ENDED, duration, moment

_PAGE = 50
_PAUSE = 5.0
"""Seconds between two looks at what runs."""


def add_pages(site: Site) -> None:
    """Add `/`."""

    @ui.page("/")
    async def home() -> Response | None:
        return await site.show("Jobs", place="/", build=_build)


async def _build(door: Door) -> None:
    view = _View(door)
    await view.look()
    ui.timer(_PAUSE, view.look_again, immediate=False)


@dataclass
class _Row:
    """The parts of a job's row that change."""

    status: Tag
    told: Tag
    end: Tag


@dataclass
class _View:
    """What the page shows of the jobs, and what it showed last."""

    door: Door
    shown: list[tuple[str, str]] = field(default_factory=list)
    rows: dict[str, _Row] = field(default_factory=dict)
    place: Tag = field(init=False)
    cursors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.place = Tag("div")

    async def look_again(self) -> None:
        try:
            await self.look()
        except RefusedError as refused:
            if refused.needs_key:
                ui.navigate.to("/sign-in")

    async def look(self) -> None:
        """Show what is new; what has not changed stays as it is, and so does the focus."""
        after = self.cursors[-1] if self.cursors else None
        page = await self.door.get("/fine_tuning/jobs", limit=_PAGE, after=after)
        jobs: list[Thing] = page["data"]
        words = await asyncio.gather(*(self._told(job) for job in jobs))
        order = [(job["id"], _group(job)) for job in jobs]
        if order != self.shown or not jobs:
            self.shown = order
            self.place.clear()
            self.rows.clear()
            with self.place:
                self._lists(jobs, more=page["has_more"])
        for job, told in zip(jobs, words, strict=True):
            row = self.rows[job["id"]]
            show_badge(row.status, job["status"])
            row.told.say(told)
            row.end.say(_end(job))

    async def _told(self, job: Thing) -> str:
        """Return what a job does now, or why it does nothing."""
        queue = job.get("queue")
        if queue:
            return f"Number {queue['position']} in the queue: {queue['reason']}"
        if job["status"] in ENDED:
            return str((job.get("error") or {}).get("message") or job.get("fine_tuned_model") or "")
        events = await self.door.get(job_path(job["id"], "events"), limit=1)
        return str(events["data"][0]["message"]) if events["data"] else ""

    def _lists(self, jobs: list[Thing], *, more: bool) -> None:
        if not jobs and not self.cursors:
            self._welcome()
            return
        for title in ("Running", "Waiting", "Paused", "Ended"):
            found = [job for job in jobs if _group(job) == title]
            if found:
                with panel(f"{title} ({len(found)})"):
                    self._table(title, found)
        with Tag("div", classes="actions"):
            if self.cursors:
                Tag("button", "Newer jobs", classes="button plain", type="button").on(
                    "click", self._newer, args=[]
                )
            if more:
                last = jobs[-1]["id"]
                Tag("button", "Older jobs", classes="button plain", type="button").on(
                    "click", lambda: self._older(last), args=[]
                )

    async def _older(self, last: str) -> None:
        self.cursors.append(last)
        await self.look_again()

    async def _newer(self) -> None:
        self.cursors.pop()
        await self.look_again()

    def _table(self, title: str, jobs: list[Thing]) -> None:
        with table(f"{title} jobs", ("Job", "Model", "Status", "What it tells", "Created", "End")):
            for job in jobs:
                with Tag("tr"):
                    with cell("Job"):
                        link(job.get("user_provided_suffix") or job["id"], f"/jobs/{job['id']}")
                    cell("Model", job["model"], classes="name")
                    with cell("Status"):
                        status = badge(job["status"])
                    told = cell("What it tells", classes="wide")
                    cell("Created", moment(job["created_at"]), classes="quiet")
                    end = cell("End", classes="quiet")
                self.rows[job["id"]] = _Row(status, told, end)

    def _welcome(self) -> None:
        with panel("No job yet"):
            note("A job teaches a model what is in a file. Three steps lead to an answer:")
            with Tag("ol", classes="steps"):
                for path, words in (
                    ("/files", "Upload a file and read its report"),
                    ("/new", "Make a job of it"),
                    ("/playground", "Compare the answers before and after"),
                ):
                    with Tag("li"):
                        link(words, path)


def _group(job: Thing) -> str:
    status = job["status"]
    if status in ENDED:
        return "Ended"
    return {"running": "Running", "paused": "Paused"}.get(status, "Waiting")


def _end(job: Thing) -> str:
    if job.get("finished_at"):
        return f"after {duration(job['finished_at'] - job['created_at'])}"
    expected = (job.get("queue") or {}).get("expected_start")
    if expected:
        return f"should start {moment(expected)}"
    return f"about {moment(job['estimated_finish'])}" if job.get("estimated_finish") else "–"
