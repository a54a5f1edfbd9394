"""The verdict: whether the tuned model is better, by what measure, and in which answers."""

from __future__ import annotations

from tunesmith.dashboard.door import Door, RefusedError, Thing, job_path, quoted
from tunesmith.dashboard.parts import Tag, cell, heading, link, note, panel, table
from tunesmith.dashboard.words import ENDED, number

_OUTCOMES = {
    "better": ("Better than what it started from", "is-better"),
    "same": ("No better and no worse than what it started from", ""),
    "worse": ("Worse than what it started from", "is-worse"),
}
_ANSWERS = 20
"""Answers that are shown."""


async def show(place: Tag, door: Door, *, job: Thing) -> None:
    """Show the verdict on `job` at `place`, or why there is none."""
    if job["status"] not in ENDED:
        return
    try:
        found: Thing | None = await door.get(job_path(job["id"], "verdict"))
        why = ""
    except RefusedError as refused:
        found = None
        absent = refused.is_absent and refused.code == "unknown_url"
        why = "This service gives no verdicts." if absent else refused.message
    place.clear()
    with place, panel("Verdict"):
        if found is None:
            note(why)
            return
        _outcome(found)
        _measures(found)
        _answers(found)
        _lines(found)


def _outcome(found: Thing) -> None:
    words, kind = _OUTCOMES.get(found["outcome"], (found["outcome"], ""))
    held_out = found["held_out"]
    with Tag("p", classes="actions"):
        Tag("span", words, classes=f"badge {kind}")
        Tag(
            "span",
            f"on {number(held_out['lines'])} held-out lines of {number(held_out['tokens'])} tokens",
            classes="quiet",
        )
    best = found.get("best_checkpoint")
    if best:
        with Tag("p"):
            Tag("span", f"The best checkpoint is that of step {number(best['step'])}: ")
            link(best["name"], f"/playground?model={quoted(best['name'])}", classes="name")
    gate = found.get("gate")
    if gate:
        kind = "good" if gate["passed"] else "bad"
        note(f"The gate '{gate['rule']}': {gate['reason']}", kind=kind)


def _measures(found: Thing) -> None:
    columns = ("Measure", "Better is", found["baseline"], "Tuned", "Difference")
    with table("Measures, with intervals of 95 %", columns):
        for each in found["measures"]:
            with Tag("tr"):
                Tag("th", each["name"].replace("_", " "), scope="row", data_label="Measure")
                cell("Better is", each["better"])
                for label, key in (
                    (found["baseline"], "baseline"),
                    ("Tuned", "tuned"),
                    ("Difference", "difference"),
                ):
                    cell(label, _interval(each[key]), classes="figure")


def _interval(found: Thing | None) -> str:
    if not found:
        return "–"
    return f"{number(found['value'])} ({number(found.get('low'))} to {number(found.get('high'))})"


def _answers(found: Thing) -> None:
    answers = found.get("answers") or []
    if answers:
        heading("Answers side by side", 3)
    for each in answers[:_ANSWERS]:
        note(f"Line {each['line']}").classes("unseen")
        Tag("p", each["question"], classes="said")
        with Tag("div", classes="answers"):
            for title, key in ((found["baseline"], "baseline"), ("Tuned", "tuned")):
                with Tag("div", classes="answer"):
                    Tag("h4", title)
                    Tag("p", each[key])
        if each.get("wanted") is not None:
            with Tag("details"):
                Tag("summary", "What the file has")
                Tag("p", each["wanted"], classes="said")


def _lines(found: Thing) -> None:
    worse = found.get("worse_lines") or []
    if worse:
        heading(f"Lines that got worse ({number(found.get('worse_count', len(worse)))})", 3)
        with table("Lines that got worse", ("Line", "Loss before", "Loss after")):
            for each in worse[:50]:
                with Tag("tr"):
                    cell("Line", number(each["line"]), classes="figure")
                    cell("Loss before", number(each["baseline_loss"]), classes="figure")
                    cell("Loss after", number(each["tuned_loss"]), classes="figure")
    general = found.get("general") or []
    if general:
        heading("What it knew before", 3)
        with table("Loss on general texts", ("Text", "Loss before", "Loss after")):
            for each in general[:50]:
                with Tag("tr"):
                    cell("Text", each["text"], classes="wide")
                    cell("Loss before", number(each["baseline_loss"]), classes="figure")
                    cell("Loss after", number(each["tuned_loss"]), classes="figure")
