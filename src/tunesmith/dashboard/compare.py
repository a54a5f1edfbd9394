"""Two jobs side by side: what differs in their data, settings, curves and answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fastapi.responses import Response
from nicegui import ui

from tunesmith.dashboard import differences
from tunesmith.dashboard.curves import PICTURES, draw_two
from tunesmith.dashboard.differences import Difference
from tunesmith.dashboard.door import Door, RefusedError, Thing, job_path, quoted
from tunesmith.dashboard.frame import Site
from tunesmith.dashboard.parts import Tag, cell, choice, note, panel, table
from tunesmith.dashboard.words import STATUSES, duration, number, plain

_JOBS = 200
_POINTS = 600
_ANSWERS = 20
_FEW = 8
"""Rows that are shown whether they differ or not."""


def add_pages(site: Site) -> None:
    """Add `/compare`."""

    @ui.page("/compare")
    async def compare(first: str = "", second: str = "") -> Response | None:
        async def build(door: Door) -> None:
            await _build(door, first=first, second=second)

        place = f"/compare?first={quoted(first)}&second={quoted(second)}"
        return await site.show("Compare two jobs", place=place, build=build)


async def _build(door: Door, *, first: str, second: str) -> None:
    jobs = (await door.get("/fine_tuning/jobs", limit=_JOBS))["data"]
    asked = {"first": first, "second": second}
    names = {"": "choose a job"} | {job["id"]: _name(job) for job in jobs}
    for each in (first, second):
        if each:
            names.setdefault(each, each)

    def go(which: str, job_id: str) -> None:
        asked[which] = job_id
        ui.navigate.to(f"/compare?first={quoted(asked['first'])}&second={quoted(asked['second'])}")

    with Tag("div", classes="pair"):
        choice("First job", names, hear=lambda to: go("first", to), value=first)
        choice("Second job", names, hear=lambda to: go("second", to), value=second)
    if not first or not second:
        note("Choose two jobs to see what differs between them.")
        return
    both = await asyncio.gather(door.get(job_path(first)), door.get(job_path(second)))
    _pairs("Data", differences.of_data(*both))
    _pairs("Settings", differences.of_settings(*both))
    _pairs("What came of it", _results(*both))
    await _curves(door, both)
    await _answers(door, both)


def _name(job: Thing) -> str:
    name = job.get("user_provided_suffix") or job["model"]
    status = STATUSES.get(job["status"], job["status"])
    return f"{name}, {status} ({job['id']})"


def _pairs(title: str, found: Sequence[Difference]) -> None:
    """Add what differs, and below it, folded up where there is much, what is the same."""
    differing = [each for each in found if each.differs]
    same = [each for each in found if not each.differs]
    with panel(title):
        if len(found) <= _FEW:
            _pairs_table(title, found)
            return
        if differing:
            _pairs_table(f"{title} that differ", differing)
        else:
            note("None differs.")
        with Tag("details"):
            Tag("summary", f"{len(same)} that are the same")
            _pairs_table(f"{title} that are the same", same)


def _pairs_table(caption: str, found: Sequence[Difference]) -> None:
    with table(caption, ("What", "First", "Second")):
        for each in found:
            with Tag("tr", classes="differs" if each.differs else ""):
                with Tag("th", each.name, scope="row", data_label="What"):
                    if each.differs:
                        Tag("span", " (differs)", classes="unseen")
                cell("First", plain(each.first))
                cell("Second", plain(each.second))


def _results(first: Thing, second: Thing) -> list[Difference]:
    def known(job: Thing) -> dict[str, object]:
        ended = job.get("finished_at")
        return {
            "Status": STATUSES.get(job["status"], job["status"]),
            "Took": duration(ended - job["created_at"]) if ended else None,
            "Tokens trained on": job.get("trained_tokens"),
            "Tuned model": job.get("fine_tuned_model"),
            "Verdict": (job.get("verdict") or {}).get("outcome"),
        }

    one, two = known(first), known(second)
    return [Difference(name, one[name], two[name]) for name in one]


async def _curves(door: Door, both: Sequence[Thing]) -> None:
    found = await asyncio.gather(
        *(door.get(job_path(job["id"], "metrics"), points=_POINTS) for job in both)
    )
    named = dict(zip(("first", "second"), (each["data"] for each in found), strict=True))
    with panel("Curves"), Tag("div", classes="curves"):
        for picture in PICTURES:
            if any(picture.has(metrics) for metrics in named.values()):
                draw_two(picture, named)


async def _answers(door: Door, both: Sequence[Thing]) -> None:
    found: list[Thing | None] = []
    for job in both:
        try:
            found.append(await door.get(job_path(job["id"], "verdict")))
        except RefusedError:
            found.append(None)
    with panel("Answers"):
        one, two = found
        if one is None or two is None:
            which = "Neither job has" if one is two else "One of the jobs has not"
            note(f"{which} a verdict, whose answers would stand here.")
            return
        _measures(one, two)
        second = {each["question"]: each for each in two["answers"]}
        shared = [each for each in one["answers"] if each["question"] in second]
        if not shared:
            note("The jobs were asked different questions.")
        for each in shared[:_ANSWERS]:
            Tag("p", each["question"], classes="said")
            with Tag("div", classes="answers"):
                for title, said in (("First", each), ("Second", second[each["question"]])):
                    with Tag("div", classes="answer"):
                        Tag("h3", title)
                        Tag("p", said["tuned"])


def _measures(one: Thing, two: Thing) -> None:
    second = {each["name"]: each for each in two["measures"]}
    with table("Measures", ("Measure", "First", "Second")):
        for each in one["measures"]:
            other = second.get(each["name"])
            with Tag("tr"):
                Tag("th", each["name"].replace("_", " "), scope="row", data_label="Measure")
                cell("First", number(each["tuned"]["value"]), classes="figure")
                cell("Second", number(other["tuned"]["value"]) if other else "–", classes="figure")
