"""A form for a job: each choice explained, what it would take, and the same request as text."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

from fastapi.responses import Response
from nicegui import ui

from tunesmith.dashboard.choices import (
    ADAPTER,
    BOUNDS,
    HELD_OUT,
    LEARNING,
    METHODS,
    Choice,
    request_of,
)
from tunesmith.dashboard.door import Door, RefusedError, Thing, quoted
from tunesmith.dashboard.estimate import Estimating
from tunesmith.dashboard.frame import Site
from tunesmith.dashboard.parts import Tag, button, choice, field, note, panel
from tunesmith.dashboard.request_text import as_curl, as_python

_FILES = 1000
"""Files that are offered."""


def add_pages(site: Site) -> None:
    """Add `/new`."""

    @ui.page("/new")
    async def new(file: str = "", model: str = "") -> Response | None:
        async def build(door: Door) -> None:
            await _build(door, file=file, model=model)

        return await site.show("New job", place="/new", build=build)


async def _build(door: Door, *, file: str, model: str) -> None:
    models, files = await asyncio.gather(
        door.get("/models"), door.get("/files", purpose="fine-tune", limit=_FILES)
    )
    names = [each["id"] for each in models["data"]]
    chosen = {
        "model": model if model in names else (names[0] if names else ""),
        "training_file": file or (files["data"][0]["id"] if files["data"] else ""),
        "method": "supervised",
    }
    _Form(door, chosen).place(names, files["data"])


class _Form:
    """What was chosen so far, and what stands beside it."""

    def __init__(self, door: Door, chosen: dict[str, str]) -> None:
        self._door = door
        self._chosen = chosen
        # A press that is sent twice makes one job.
        self._once = secrets.token_hex(16)
        seen = ui.context.client.request.url
        self._address = f"{seen.scheme}://{seen.netloc}"

    def place(self, names: Sequence[str], files: Sequence[Thing]) -> None:
        with Tag("div", classes="columns"):
            with Tag("div"):
                self._first(names, files)
                self._group("How it is measured", HELD_OUT)
                self._group("How it learns", LEARNING)
                self._group("What is trained", ADAPTER)
                with panel("Bounds, and what else there is"), Tag("details"):
                    Tag("summary", "Processors, priority, bad rows, seed")
                    self._fields(BOUNDS)
            with Tag("div", classes="stuck"):
                with panel("What it would take"):
                    self._estimate = Estimating(self._door)
                with panel("Create"):
                    self._fault = Tag("p", classes="note bad", role="alert", hidden=True)
                    button("Create the job", self._create, kind="main")
                with panel("The same request"):
                    self._texts()
        self._changed()

    def _first(self, names: Sequence[str], files: Sequence[Thing]) -> None:
        listed = {each["id"]: f"{each['filename']} ({each['id']})" for each in files}
        with panel("What it learns"):
            if not listed:
                note("There is no file yet to learn from; upload one under Files.", kind="warn")
            choice(
                "Model",
                {each: each for each in names},
                hear=lambda to: self._set("model", to),
                value=self._chosen["model"],
                explained="What is tuned: a base model, or a tuned one that learns on.",
            )
            choice(
                "Training file",
                listed,
                hear=lambda to: self._set("training_file", to),
                value=self._chosen["training_file"],
                explained="What is learnt. Its report tells whether a job would take it.",
            )
            choice(
                "What is learnt",
                METHODS,
                hear=lambda to: self._set("method", to),
                value="supervised",
                explained="It has to fit what the file holds.",
            )
            choice(
                "Held-out file",
                {"": "none"} | listed,
                hear=lambda to: self._set("validation_file", to),
                explained="What the job is measured on and never learns. Without one, a share of "
                "the training file can be held out below.",
            )
            field(
                "Suffix",
                lambda to: self._set("suffix", to),
                explained="A part of the tuned model's name, to know it by.",
                maxlength="64",
            )

    def _group(self, title: str, choices: Sequence[Choice]) -> None:
        with panel(title):
            self._fields(choices)

    def _fields(self, choices: Sequence[Choice]) -> None:
        for each in choices:
            self._field(each)

    def _field(self, each: Choice) -> None:
        def hear(value: str) -> None:
            self._set(each.place, str(value))

        if each.kind == "one of":
            options = {"": "left to the service"} | {value: value for value in each.options}
            choice(each.label, options, hear=hear, explained=each.explained)
            return
        kind = "text" if each.kind == "text" else "number"
        field(
            each.label,
            hear,
            kind=kind,
            explained=each.explained,
            placeholder="left to the service",
            step="any" if each.kind == "number" else None,
        )

    def _texts(self) -> None:
        note("Sent from a shell or a program, it makes the same job.")
        Tag("h3", "curl")
        label = "The request for curl"
        self._curl = Tag("pre", classes="code", tabindex="0", role="region", aria_label=label)
        Tag("h3", "Python")
        label = "The request in Python"
        self._python = Tag("pre", classes="code", tabindex="0", role="region", aria_label=label)

    def _set(self, place: str, value: str) -> None:
        if self._chosen.get(place, "") != value:
            self._chosen[place] = value
            self._once = secrets.token_hex(16)
            self._changed()

    def _changed(self) -> None:
        request = request_of(self._chosen)
        self._curl.say(as_curl(request, address=self._address))
        self._python.say(as_python(request, address=self._address))
        self._fault.give(hidden=True)
        self._estimate.change(request)

    async def _create(self) -> None:
        try:
            job = await self._door.create_job(request_of(self._chosen), once=self._once)
        except RefusedError as refused:
            self._fault.say(refused.message)
            self._fault.give(hidden=None)
            return
        ui.navigate.to(f"/jobs/{quoted(job['id'])}")
