"""What a job would take: its steps at once, its time and memory once they were measured."""

from __future__ import annotations

import asyncio

from nicegui import background_tasks

from tunesmith.dashboard.door import Door, RefusedError, Thing, quoted
from tunesmith.dashboard.parts import Tag, button, facts, note, stop_with
from tunesmith.dashboard.words import duration, number, size

_QUIET = 0.8
"""Seconds without a change after which steps are counted."""
_PAUSE = 1.0
_COUNTING = 300.0


class Estimating:
    """Shows what the request in the form would take, whenever it changes.

    Steps and tokens are counted by themselves. A measurement puts the cluster to work, so it is
    made upon demand, and again by itself for each later change: one at a time.
    """

    def __init__(self, door: Door) -> None:
        """Place it, with nothing known."""
        self._door = door
        self._request: Thing = {}
        self._news = asyncio.Event()
        self._measuring = False
        self._counted = Tag("div", aria_live="polite")
        self._measured = Tag("div", aria_live="polite")
        self._start = button("Measure time and memory", self._measure_on)
        stop_with(background_tasks.create(self._keep_up(), name="estimate"))

    def change(self, request: Thing) -> None:
        """Estimate `request` from now on."""
        self._request = request
        self._news.set()

    def _measure_on(self) -> None:
        self._measuring = True
        self._start.give(hidden=True)
        self._news.set()

    async def _keep_up(self) -> None:
        while True:
            await self._news.wait()
            # Whoever types goes on typing.
            while self._news.is_set():
                self._news.clear()
                await asyncio.sleep(_QUIET)
            request = self._request
            if not request.get("training_file") or not request.get("model"):
                continue
            await self._count(request)
            if self._measuring and not self._news.is_set():
                await self._measure(request)

    async def _count(self, request: Thing) -> None:
        tuning = request.get("tuning", {})
        method = request.get("method", {})
        kind = method.get("type", "supervised")
        given = method.get(kind, {}).get("hyperparameters", {})
        asked = {
            "model": request["model"],
            "method": tuning.get("objective") or kind,
            "validation_file": request.get("validation_file"),
            "max_length": tuning.get("max_length"),
            "bad_rows": tuning.get("bad_rows", "refuse"),
            "n_epochs": given.get("n_epochs"),
            "batch_size": given.get("batch_size"),
        }
        try:
            report = await self._door.post(
                f"/files/{quoted(request['training_file'])}/validate", asked, patience=_COUNTING
            )
        except RefusedError as refused:
            self._say(self._counted, refused.message)
            return
        self._counted.clear()
        with self._counted:
            _show_count(report)

    async def _measure(self, request: Thing) -> None:
        self._say(self._measured, "A few steps are being measured…", kind="muted")
        try:
            found = await self._door.post("/fine_tuning/estimate", request)
            while found["status"] in ("queued", "running"):
                await asyncio.sleep(_PAUSE)
                if self._news.is_set():
                    return
                found = await self._door.get(f"/fine_tuning/estimate/{quoted(found['id'])}")
        except RefusedError as refused:
            self._say(self._measured, refused.message)
            return
        self._measured.clear()
        with self._measured:
            _show_measurement(found)

    def _say(self, place: Tag, words: str, *, kind: str = "warn") -> None:
        place.clear()
        with place:
            note(words, kind=kind)


def _show_count(report: Thing) -> None:
    if not report["valid"]:
        note("A job would refuse this file; its report under Files tells why.", kind="bad")
    tokens, estimate = report.get("tokens"), report.get("estimate")
    known: dict[str, object] = {"Examples": number(report["examples"])}
    if estimate:
        known |= {
            "Epochs": number(estimate["n_epochs"]),
            "Batch size": number(estimate["batch_size"]),
            "Steps": number(estimate["steps"]),
            "Tokens trained on": number(estimate["trained_tokens"]),
        }
    if tokens:
        known["Examples cut"] = number(tokens["cut"])
    facts(known)


def _show_measurement(found: Thing) -> None:
    error = found.get("error")
    if error:
        note(error["message"], kind="bad")
        return
    seconds = found.get("estimated_seconds") or {}
    memory = size(found.get("peak_memory_bytes"))
    if found.get("fits"):
        note(f"It fits: {memory} of memory at the most.", kind="good")
    facts(
        {
            "Time, at least": duration(seconds.get("least")),
            "Time, at most": duration(seconds.get("most")),
            "A step": f"{number(found.get('seconds_per_step'))} s",
            "Steps": number(found.get("steps")),
        }
    )
