"""One file: its report, each bad line in its place, and what is learnt from it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fastapi.responses import Response
from nicegui import background_tasks, ui

from tunesmith.dashboard.door import Door, RefusedError, Thing, quoted
from tunesmith.dashboard.frame import Site
from tunesmith.dashboard.lines import lines_of
from tunesmith.dashboard.parts import (
    Tag,
    button,
    choice,
    facts,
    heading,
    link,
    note,
    panel,
    stop_with,
    tell,
)
from tunesmith.dashboard.rows import file_rows_panel
from tunesmith.dashboard.words import moment, number, size

_PATIENCE = 600.0
"""Seconds that the check of a file may take."""
_FINDINGS = 100
_METHODS = {
    "": "any",
    "supervised": "answers (supervised)",
    "dpo": "preferences (dpo)",
    "reasoning": "reasoning",
    "pretraining": "texts (pretraining)",
    "embedding": "embedding",
    "rerank": "rerank",
}


def add_pages(site: Site) -> None:
    """Add `/files/{id}`."""

    @ui.page("/files/{file_id}")
    async def file(file_id: str) -> Response | None:
        async def build(door: Door) -> None:
            await _build(door, file_id)

        return await site.show("File", place=f"/files/{quoted(file_id)}", build=build)


async def _build(door: Door, file_id: str) -> None:
    file, models = await asyncio.gather(door.get(f"/files/{quoted(file_id)}"), door.get("/models"))
    heading(file["filename"], 2).classes("name")
    facts(
        {
            "Id": file["id"],
            "Purpose": file["purpose"],
            "Size": size(file["bytes"]),
            "Uploaded": moment(file["created_at"]),
        }
    )
    with Tag("div", classes="actions") as actions:
        actions.style("margin-top: 14px")
        link("Make a job of it", f"/new?file={quoted(file_id)}", classes="button main")
        link("Download", f"/download/files/{quoted(file_id)}", classes="button plain")
    if file["purpose"] == "fine-tune":
        report = _Report(door, file)
        names = [each["id"] for each in models["data"]]
        report.place(names)
        file_rows_panel(door, file_id, models=names, options=report.asked)


class _Report:
    """The report, as a job with some options would take the file."""

    def __init__(self, door: Door, file: Thing) -> None:
        self._door = door
        self._file = file
        self._path = f"/files/{quoted(file['id'])}"
        self.asked: dict[str, str] = {}
        """What is chosen so far."""

    def place(self, models: Sequence[str]) -> None:
        """Add the form and, once the page is there, the report without any option."""
        names = {"": "count no tokens"} | {each: each for each in models}
        with panel("Report"):
            with Tag("div", classes="pair"):
                choice(
                    "Model whose tokens are counted", names, hear=lambda to: self._set("model", to)
                )
                choice("What the file is for", _METHODS, hear=lambda to: self._set("method", to))
            with Tag("div", classes="actions"):
                button("Check again", self._check)
                button("Make a repaired copy", self._repair)
                link("What a repair would change", f"/download{self._path}/diff")
            self._shown = Tag("div", aria_live="polite")
        with self._shown:
            note("The file is being checked…")
        stop_with(background_tasks.create(self._check_first(), name="check of a file"))

    def _set(self, key: str, value: str) -> None:
        self.asked.pop(key, None)
        if value:
            self.asked[key] = value

    async def _check_first(self) -> None:
        with self._shown:
            await self._check()

    async def _check(self) -> None:
        self._shown.clear()
        with self._shown:
            note("The file is being checked…")
        try:
            report = await self._door.post(
                f"{self._path}/validate", dict(self.asked), patience=_PATIENCE
            )
            wanted = [each["line"] for each in report["errors"][:_FINDINGS] if each["line"]]
            lines = await lines_of(self._door, self._file["id"], wanted=wanted)
        except RefusedError as refused:
            self._shown.clear()
            with self._shown:
                note(refused.message, kind="bad")
            return
        self._shown.clear()
        with self._shown:
            show_report(report, lines)

    async def _repair(self) -> None:
        made = await self._door.post(f"{self._path}/repair", patience=_PATIENCE)
        copy = made.get("file")
        if copy is None:
            tell("There is nothing that can be mended without judgement.")
            return
        ui.navigate.to(f"/files/{quoted(copy['id'])}")


def show_report(report: Thing, lines: dict[int, str]) -> None:
    """Add a report; `lines` are those of the file that it speaks of, as far as they are known."""
    errors = [each for each in report["errors"] if each["severity"] == "error"]
    if report["valid"]:
        note("A job would take this file.", kind="good")
    else:
        note("A job would refuse this file.", kind="bad")
    known = {
        "Format": report["format"] or "none that is known",
        "Examples": number(report["examples"]),
        "Bad rows": number(report["bad_rows"]),
    }
    tokens, estimate = report.get("tokens"), report.get("estimate")
    if tokens:
        known |= {
            "Tokens": number(tokens["total"]),
            "Tokens learnt": number(tokens["learnt"]),
            "Mean length": f"{number(tokens['mean'])} tokens",
            "Cut": number(tokens["cut"]),
        }
    if estimate:
        known |= {"Epochs": estimate["n_epochs"], "Steps": number(estimate["steps"])}
    facts(known)
    if tokens:
        _lengths(tokens)
    if report["errors"]:
        warnings = len(report["errors"]) - len(errors)
        heading(f"{len(errors)} faults and {warnings} warnings, the first of each rule", 3)
    for found in report["errors"][:_FINDINGS]:
        _finding(found, lines, count=report["counts"].get(found["rule"], 1))
    if report["truncated"] or len(report["errors"]) > _FINDINGS:
        note("More was found than is listed here.")


def _lengths(tokens: Thing) -> None:
    heading("Lengths of the examples", 3)
    most = max((bar["examples"] for bar in tokens["histogram"]), default=1)
    with Tag("div", classes="bars"):
        for bar in tokens["histogram"]:
            with Tag("div"):
                words = f"up to {number(bar['upto'])}"
                Tag("span", words)
                Tag("meter", min=0, max=max(most, 1), value=bar["examples"], aria_label=words)
                Tag("span", number(bar["examples"]))


def _finding(found: Thing, lines: dict[int, str], *, count: int) -> None:
    kind = "is-error" if found["severity"] == "error" else "is-warn"
    with Tag("div", classes=f"finding {kind}"):
        with Tag("p", classes="actions"):
            word = "fault" if found["severity"] == "error" else "warning"
            Tag("span", word, classes=f"badge {'is-bad' if kind == 'is-error' else 'is-warn'}")
            Tag("code", found["rule"])
            if count > 1:
                Tag("span", f"{number(count)} times", classes="quiet")
        Tag("p", found["message"], classes="said")
        line = found["line"]
        if line and line in lines:
            _in_place(line, lines)


def _in_place(line: int, lines: dict[int, str]) -> None:
    """Show a bad line between its neighbours."""
    label = f"Line {line} of the file"
    with Tag("pre", classes="code wrapped", tabindex="0", role="region", aria_label=label):
        for place in (line - 1, line, line + 1):
            if place in lines:
                text = f"{place:>6}  {lines[place] or '(empty)'}\n"
                Tag("mark" if place == line else "span", text)
