"""Take a tuned model along: as an adapter, as whole weights, or as one GGUF file."""

from __future__ import annotations

from collections.abc import Sequence

from nicegui import ui

from tunesmith.dashboard.door import Door, RefusedError, Thing, quoted
from tunesmith.dashboard.parts import Tag, badge, button, cell, choice, link, note, panel, table
from tunesmith.dashboard.words import moment, number, size

_FORMATS = {
    "adapter": "the adapter alone, for peft and other servers",
    "merged": "whole weights, with the adapter in them",
    "gguf": "one GGUF file, for llama.cpp and what is built on it",
}
_QUANTIZATIONS = {"": "as they are", "f16": "f16", "q8_0": "q8_0 (8 bits a weight)"}
_MOST = 50
_PAUSE = 2.0
_OPEN = ("queued", "running")


async def exports_panel(door: Door, models: Sequence[str], *, wanted: str) -> None:
    """Add the form and the list; `wanted` is the model that is chosen at first."""
    with panel("Download"):
        try:
            page = await door.get("/exports", limit=_MOST)
        except RefusedError as refused:
            if not refused.is_absent:
                raise
            note(
                "This service does not hand out its models over the API yet. An adapter lies in "
                "the folder `output/<job id>/` of its data folder."
            )
            return
        if not models:
            note("There is no tuned model yet.")
            return
        asked = {"model": wanted if wanted in models else models[0], "format": "adapter"}
        listed = _List(door)

        async def export() -> None:
            body = {key: value for key, value in asked.items() if value}
            await door.post("/exports", body)
            await listed.look()

        with Tag("div", classes="pair"):
            choice(
                "Model to download",
                {each: each for each in models},
                hear=lambda to: asked.update(model=to),
                value=asked["model"],
            )
            choice("As", _FORMATS, hear=lambda to: asked.update(format=to), value="adapter")
            choice(
                "Weights of a GGUF file",
                _QUANTIZATIONS,
                hear=lambda to: asked.update(quantization=to),
            )
        button("Prepare the download", export, kind="main")
        listed.place()
        listed.show(page["data"])


class _List:
    """What was prepared or is being prepared."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def place(self) -> None:
        self._place = Tag("div", aria_live="polite")
        self._timer = ui.timer(_PAUSE, self.look, active=False, immediate=False)

    async def look(self) -> None:
        try:
            page = await self._door.get("/exports", limit=_MOST)
        except RefusedError:
            return
        self.show(page["data"])

    def show(self, exports: list[Thing]) -> None:
        self._timer.active = any(each["status"] in _OPEN for each in exports)
        self._place.clear()
        if not exports:
            return
        columns = ("Model", "As", "Status", "Files", "Made", "Download")
        with self._place, table("Downloads, newest first", columns):
            for each in exports:
                self._row(each)

    def _row(self, each: Thing) -> None:
        with Tag("tr"):
            cell("Model", each["model"], classes="name")
            cell("As", " ".join(filter(None, (each["format"], each.get("quantization")))))
            with cell("Status"):
                badge(each["status"])
                error = each.get("error")
                if each["status"] in _OPEN:
                    Tag("span", f" {number(round(100 * each['progress']))} %", classes="quiet")
                elif error:
                    note(error["message"], kind="bad")
            files = each.get("files") or []
            cell("Files", f"{len(files)}, {size(sum(file['bytes'] for file in files))}")
            cell("Made", moment(each.get("finished_at")), classes="quiet")
            with cell("Download"):
                if each["status"] == "succeeded":
                    self._links(each, files)

    def _links(self, each: Thing, files: list[Thing]) -> None:
        place = f"/download/exports/{quoted(each['id'])}"
        link("Download all", place, aria_label=f"Download all files of {each['model']}")
        with Tag("details"):
            Tag("summary", "File by file")
            for file in files:
                with Tag("div"):
                    link(file["name"], f"{place}/{file['name']}")
