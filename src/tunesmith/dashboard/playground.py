"""Speak with two models at once, and see their answers side by side as they come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from fastapi.responses import Response
from nicegui import background_tasks, ui

from tunesmith.dashboard.door import Door, RefusedError, Thing, job_path
from tunesmith.dashboard.frame import Site
from tunesmith.dashboard.parts import Hearing, Tag, button, choice, complain, field, note, panel
from tunesmith.dashboard.words import duration, number

_JOBS = 50
"""Newest jobs whose checkpoints are offered."""
_DRAWN = 0.1
"""Seconds between two drawings of an answer that comes."""


Said = dict[str, str]
"""A message of a conversation, in OpenAI's form."""


def add_pages(site: Site) -> None:
    """Add `/playground`."""

    @ui.page("/playground")
    async def playground(model: str = "", other: str = "") -> Response | None:
        async def build(door: Door) -> None:
            await _build(door, model=model, other=other)

        return await site.show("Playground", place="/playground", build=build)


async def _build(door: Door, *, model: str, other: str) -> None:
    names = await _names(door)
    for each in (model, other):
        if each and each not in names:
            names.append(each)
    tuned = model or next((name for name in names if name.startswith("ft:")), "")
    base = other or _base_of(tuned, names)
    _Playground(door, names, chosen=(base, tuned)).place()


async def _names(door: Door) -> list[str]:
    """Return what can be asked: base models, tuned ones and the checkpoints of the newest jobs."""
    models, jobs = await asyncio.gather(
        door.get("/models"), door.get("/fine_tuning/jobs", limit=_JOBS)
    )
    begun = [job for job in jobs["data"] if job["status"] not in ("validating_files", "queued")]
    lists = await asyncio.gather(
        *(door.get(job_path(job["id"], "checkpoints"), limit=20) for job in begun)
    )
    points: list[Thing] = [each for page in lists for each in page["data"]]
    names = [each["id"] for each in models["data"]]
    return names + [each["fine_tuned_model_checkpoint"] for each in points]


def _base_of(tuned: str, names: Sequence[str]) -> str:
    """Return the base model in the name of a tuned one, or the first there is."""
    base = tuned.split(":")[1] if tuned.startswith("ft:") else ""
    return base if base in names else next(iter(names), "")


class _Playground:
    """The form, and the conversation with each model, which goes on from turn to turn."""

    def __init__(self, door: Door, names: Sequence[str], *, chosen: tuple[str, str]) -> None:
        self._door = door
        self._names = {"": "none"} | {each: each for each in names}
        self._chosen = list(chosen)
        self._asked = {"system": "", "question": "", "temperature": "0", "max_tokens": "256"}
        self._tasks: list[asyncio.Task[None]] = []
        self._answers: list[_Answer] = []
        self._said: list[list[Said]] = [[], []]

    def place(self) -> None:
        with panel("What is asked"):
            with Tag("div", classes="pair"):
                for side, title in enumerate(("Left model", "Right model")):
                    choice(title, self._names, hear=self._chooser(side), value=self._chosen[side])
            field("Question", self._hear("question"), kind="textarea")
            with Tag("details"):
                Tag("summary", "System message, temperature, length")
                field("System message", self._hear("system"), kind="textarea")
                with Tag("div", classes="pair"):
                    field(
                        "Temperature",
                        self._hear("temperature"),
                        value="0",
                        kind="number",
                        min="0",
                        max="2",
                        step="0.1",
                        explained="0 always takes the likeliest word.",
                    )
                    field(
                        "Tokens of the answer, at most",
                        self._hear("max_tokens"),
                        value="256",
                        kind="number",
                        min="1",
                    )
            with Tag("div", classes="actions"):
                button("Ask both", self._ask, kind="main")
                button("Stop", self._stop)
                button("Start anew", self._start_anew)
            note("What is asked next goes on with the conversation, until you start anew.")
            note("The first answer takes longer: its model has to be loaded first.")
        with panel("Answers"):
            self._turns = Tag("div", classes="turns")
        ui.context.client.on_delete(self._cancel)

    def _chooser(self, place: int) -> Hearing:
        def choose(name: str) -> None:
            self._chosen[place] = name
            self._start_anew()

        return choose

    def _hear(self, name: str) -> Hearing:
        def hear(value: object) -> None:
            self._asked[name] = str(value)

        return hear

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()

    def _stop(self) -> None:
        self._cancel()
        for answer in self._answers:
            if not answer.ended:
                answer.fail("Stopped; the conversation goes on as if it had not been asked.")
        self._answers.clear()

    def _start_anew(self) -> None:
        self._stop()
        self._said = [[], []]
        self._turns.clear()

    def _ask(self) -> None:
        self._stop()
        question = self._asked["question"]
        models = [(side, name) for side, name in enumerate(self._chosen) if name]
        if not question.strip():
            complain("Write a question first.")
            return
        if not models:
            complain("Choose a model first.")
            return
        with self._turns:
            Tag("p", question, classes="asked")
            with Tag("div", classes="answers", aria_live="off"):
                for side, name in models:
                    answer = _Answer(name)
                    self._answers.append(answer)
                    hearing = self._hear_answer(answer, self._said[side], question=question)
                    self._tasks.append(background_tasks.create(hearing, name="an answer"))

    async def _hear_answer(self, answer: _Answer, said: list[Said], *, question: str) -> None:
        """Show what the model of `answer` says to `question`, and add both to what was `said`."""
        asked = {"role": "user", "content": question}
        messages = [*said, asked]
        if self._asked["system"].strip():
            messages.insert(0, {"role": "system", "content": self._asked["system"]})
        try:
            options = {
                "temperature": float(self._asked["temperature"] or 0),
                "max_tokens": int(self._asked["max_tokens"] or 256),
            }
            async for piece in self._door.answer(answer.model, messages, options=options):
                answer.add(piece)
            answer.end()
            if answer.text:
                said += [asked, {"role": "assistant", "content": answer.text}]
        except ValueError:
            answer.fail("The temperature and the length have to be numbers.")
        except RefusedError as refused:
            absent = refused.code == "unknown_url"
            answer.fail(
                "This service does not answer with models yet." if absent else refused.message
            )


class _Answer:
    """One answer, drawn while it comes."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.text = ""
        """What was said so far."""
        self.ended = False
        """Whether nothing more will come."""
        self._pieces = 0
        self._began = time.monotonic()
        self._drawn = 0.0
        with Tag("div", classes="answer"):
            Tag("h3", model)
            self._said = Tag("p", "…", aria_live="polite", aria_busy="true")
            self._how = Tag("p", "", classes="hint")

    def add(self, piece: str) -> None:
        self.text += piece
        self._pieces += 1
        now = time.monotonic()
        if now - self._drawn > _DRAWN:
            self._drawn = now
            self._said.say(self.text)

    def end(self) -> None:
        self.ended = True
        self._said.say(self.text or "(an empty answer)")
        self._said.give(aria_busy="false")
        took = duration(time.monotonic() - self._began)
        self._how.say(f"{number(self._pieces)} pieces in {took}")

    def fail(self, message: str) -> None:
        self.ended = True
        self._said.say(self.text)
        self._said.give(aria_busy="false")
        self._how.say(message)
        self._how.classes(replace="note bad")
