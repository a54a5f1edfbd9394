"""The models: base ones and tuned ones, their checkpoints, and how to take them along."""

from __future__ import annotations

import asyncio

from fastapi.responses import Response
from nicegui import ui

from tunesmith.dashboard.door import Door, Thing, quoted
from tunesmith.dashboard.exports import exports_panel
from tunesmith.dashboard.frame import Site
from tunesmith.dashboard.parts import Tag, button, cell, link, note, panel, table
from tunesmith.dashboard.words import moment

_PAGE = 50


def add_pages(site: Site) -> None:
    """Add `/models`."""

    @ui.page("/models")
    async def models(export: str = "") -> Response | None:
        async def build(door: Door) -> None:
            await _build(door, export=export)

        return await site.show("Models", place="/models", build=build)


async def _build(door: Door, *, export: str) -> None:
    found, jobs = await asyncio.gather(
        door.get("/models"), door.get("/fine_tuning/jobs", limit=1000)
    )
    base = [each for each in found["data"] if each["owned_by"] == "system"]
    tuned = [each for each in found["data"] if each["owned_by"] != "system"]
    makers = {job["fine_tuned_model"]: job for job in jobs["data"] if job.get("fine_tuned_model")}
    with panel("Tuned models"):
        if tuned:
            _Tuned(tuned, makers)
        else:
            note("There is none yet; a job that succeeds makes one.")
    with panel("Base models"), table("Base models", ("Name", "Use")):
        for each in base:
            with Tag("tr"):
                cell("Name", each["id"], classes="name")
                with cell("Use"):
                    _uses(each["id"])
    await exports_panel(door, [each["id"] for each in tuned], wanted=export)


class _Tuned:
    """The tuned models, so many at a time."""

    def __init__(self, models: list[Thing], makers: dict[str, Thing]) -> None:
        self._models = models
        self._makers = makers
        self._shown = 0
        with table("Tuned models, newest first", ("Name", "Made by", "Made", "Use")) as body:
            self._body = body
        self._more = button("More", self._add)
        self._add()

    def _add(self) -> None:
        for each in self._models[self._shown : self._shown + _PAGE]:
            job = self._makers.get(each["id"])
            with self._body, Tag("tr"):
                cell("Name", each["id"], classes="name")
                with cell("Made by"):
                    if job:
                        link(job["id"], f"/jobs/{quoted(job['id'])}")
                cell("Made", moment(each["created"]), classes="quiet")
                with cell("Use"):
                    _uses(each["id"])
        self._shown += _PAGE
        self._more.give(hidden=None if self._shown < len(self._models) else True)


def _uses(name: str) -> None:
    with Tag("div", classes="actions") as uses:
        uses.style("margin: 0")
        link("Try it", f"/playground?model={quoted(name)}", aria_label=f"Try it: {name}")
        link("Tune it", f"/new?model={quoted(name)}", aria_label=f"Tune it: {name}")
