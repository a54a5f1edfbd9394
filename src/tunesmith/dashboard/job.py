"""One job: what it does, how it learns, what came of it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

from fastapi.responses import Response
from nicegui import ui

from tunesmith.dashboard import checkpoints, verdict
from tunesmith.dashboard.curves import PICTURES, Curve
from tunesmith.dashboard.door import Door, RefusedError, Thing, job_path, quoted
from tunesmith.dashboard.events import EventRows, Follower
from tunesmith.dashboard.frame import Site
from tunesmith.dashboard.log import log_panel
from tunesmith.dashboard.parts import (
    Tag,
    badge,
    button,
    facts,
    heading,
    link,
    note,
    panel,
    show_badge,
    tell,
)
from tunesmith.dashboard.rows import rows_panel
from tunesmith.dashboard.settings_shown import settings_of
from tunesmith.dashboard.words import ENDED, duration, moment, number, plain

_POINTS = 400
"""Steps that a curve is first drawn from."""
_FLUSH = 0.7
"""Seconds between two looks at what has come in."""
_EVENTS = 25


def add_pages(site: Site) -> None:
    """Add `/jobs/{id}`."""

    @ui.page("/jobs/{job_id}")
    async def job(job_id: str) -> Response | None:
        async def build(door: Door) -> None:
            await _build(door, job_id)

        return await site.show("Job", place=f"/jobs/{quoted(job_id)}", build=build)


async def _build(door: Door, job_id: str) -> None:
    job, events, metrics = await asyncio.gather(
        door.get(job_path(job_id)),
        door.get(job_path(job_id, "events"), limit=_EVENTS),
        door.get(job_path(job_id, "metrics"), points=_POINTS),
    )
    view = JobView(door, job)
    view.draw(metrics["data"], events)
    await view.parts_below()
    if job["status"] not in ENDED:
        newest = events["data"][0]["id"] if events["data"] else None
        follower = Follower(door, job_id, newest)
        follower.start()
        ui.timer(_FLUSH, lambda: view.take(follower), immediate=False)


@dataclass
class JobView:
    """What the page shows of a job, part by part."""

    door: Door
    """The API."""
    job: Thing
    """The job as it was last told."""
    _curves: list[Curve] = field(default_factory=list)
    _looks: int = 0
    _offered: str | None = None

    def draw(self, metrics: list[Thing], events: Thing) -> None:
        """Place all that is known at once."""
        with Tag("p", classes="actions"):
            self._badge = badge(self.job["status"])
            Tag("span", self.job["id"], classes="mono")
        self._actions = Tag("div", classes="actions")
        self._news = Tag("div")
        with Tag("div", classes="bar") as self._progress:
            self._bar = Tag("progress", max=1, value=0, aria_label="Progress")
            self._step = Tag("span", classes="quiet")
        with panel("What it is"):
            self._facts = Tag("div")
        with panel("How it learns"):
            self._curve_place = Tag("div", classes="curves")
            self._none = note("Its curves begin with its first step.")
        self._draw_curves(metrics)
        self._verdict = Tag("div")
        with panel("Events"):
            self._events = EventRows(self.door, self.job["id"])
            self._events.fill(events)
        self._show_job()
        if metrics:
            self._show_step(metrics[-1])

    async def parts_below(self) -> None:
        """Place what is asked for after the rest, or upon demand."""
        log_panel(self.door, self.job)
        self._checkpoints = Tag("div")
        await checkpoints.show(self._checkpoints, self.door, job_id=self.job["id"])
        rows_panel(self.door, self.job)
        with panel("Settings"):
            facts({name: plain(value) for name, value in settings_of(self.job).items()})
        await verdict.show(self._verdict, self.door, job=self.job)

    async def take(self, follower: Follower) -> None:
        """Show what `follower` has heard since, and what has become of the job."""
        events = follower.taken()
        metrics = [each["data"] for each in events if each["type"] == "metrics"]
        if metrics:
            if not self._curves:
                self._draw_curves(metrics)
            else:
                for curve in self._curves:
                    curve.lengthen(metrics)
            self._show_step(metrics[-1])
        self._events.add(events)
        self._looks += 1
        told = any(each["type"] == "message" for each in events)
        # A job's place in the queue changes without an event.
        if told or self._looks % 5 == 0:
            await self._look_again(told=told)

    async def _look_again(self, *, told: bool) -> None:
        try:
            job = await self.door.get(job_path(self.job["id"]))
        except RefusedError:
            return
        if job["status"] in ENDED and self.job["status"] not in ENDED:
            tell(f"The job has {job['status']}." if job["status"] != "cancelled" else "Cancelled.")
        ended_now = job["status"] in ENDED
        self.job = job
        self._show_job()
        if told:
            await checkpoints.show(self._checkpoints, self.door, job_id=job["id"])
        if ended_now:
            await verdict.show(self._verdict, self.door, job=job)

    def _draw_curves(self, metrics: list[Thing]) -> None:
        shown = [picture for picture in PICTURES if picture.has(metrics)]
        if not shown:
            return
        self._none.give(hidden=True)
        with self._curve_place:
            for picture in shown:
                curve = Curve(picture)
                curve.draw(metrics)
                self._curves.append(curve)

    def _show_step(self, metrics: Thing) -> None:
        step, total = metrics["step"], metrics["total_steps"]
        self._bar.give(value=step / max(total, 1))
        left = metrics.get("seconds_left")
        running = self.job["status"] == "running"
        rest = f", {duration(left)} left" if running and left else ""
        self._step.say(f"Step {number(step)} of {number(total)}{rest}")

    def _show_job(self) -> None:
        job = self.job
        show_badge(self._badge, job["status"])
        self._facts.clear()
        with self._facts:
            facts(_known(job))
        self._news.clear()
        with self._news:
            _news(job)
        self._offer()

    def _offer(self) -> None:
        """Show the buttons that fit where the job stands; the same ones stay, with their focus."""
        status = self.job["status"]
        if self._offered == status:
            return
        self._offered = status
        self._actions.clear()
        with self._actions:
            if status in ("queued", "running"):
                button("Pause", lambda: self._act("pause"))
            if status == "paused":
                button("Resume", lambda: self._act("resume"), kind="main")
            if status not in ENDED:
                self._cancel_buttons()
            link("Compare with another job", f"/compare?first={quoted(self.job['id'])}")
            tuned = self.job.get("fine_tuned_model")
            if tuned:
                link("Try the model", f"/playground?model={quoted(tuned)}")
                link("Download the adapter", f"/models?export={quoted(tuned)}")
            for each in self.job.get("result_files") or []:
                link("Download the metrics", f"/download/files/{quoted(each)}")

    def _cancel_buttons(self) -> None:
        ask = button("Cancel", lambda: sure(True), kind="danger")
        yes = button("Yes, cancel the job for good", lambda: self._act("cancel"), kind="danger")
        no = button("Let it go on", lambda: sure(False))

        def sure(asked: bool) -> None:
            ask.give(hidden=True if asked else None)
            for each in (yes, no):
                each.give(hidden=None if asked else True)

        sure(False)

    async def _act(self, verb: str) -> None:
        self.job = await self.door.post(job_path(self.job["id"], verb))
        self._show_job()
        tell({"pause": "It pauses.", "resume": "It goes on.", "cancel": "Cancelled."}[verb])


def _known(job: Thing) -> dict[str, object]:
    tuned = job.get("fine_tuned_model")
    return {
        "Model": job["model"],
        "Training file": job["training_file"],
        "Held-out file": job.get("validation_file") or "–",
        "Created": moment(job["created_at"]),
        "Ended": moment(job.get("finished_at")),
        "Should end": moment(job.get("estimated_finish")) if not job.get("finished_at") else "–",
        "Tokens trained on": number(job.get("trained_tokens")),
        "Tuned model": tuned or "–",
    }


def _news(job: Thing) -> None:
    """Say why the job waits, or why it failed and what to send instead."""
    queue, error = job.get("queue"), job.get("error")
    if queue:
        start = queue.get("expected_start")
        when = f" It should start about {moment(start)}." if start else ""
        note(f"Number {queue['position']} in the queue: {queue['reason']}{when}", kind="warn")
    if error and error.get("message"):
        note(error["message"], kind="bad").give(role="alert")
        if error.get("change"):
            heading("A request with this part instead should succeed", 3)
            Tag("pre", json.dumps(error["change"], indent=2), classes="code", tabindex="0")
