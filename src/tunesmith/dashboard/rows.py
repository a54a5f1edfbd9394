"""A row of a file as the model sees it: its tokens, those that are learnt in colour."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from nicegui import background_tasks

from tunesmith.dashboard.door import Door, RefusedError, Thing, job_path, quoted
from tunesmith.dashboard.parts import Tag, button, choice, field, note, panel, stop_with
from tunesmith.dashboard.words import number

_PATIENCE = 600.0
"""Seconds that a row may take: a model's tokenizer may have to come from afar."""
_MOST = 4000
"""Tokens of one text that are shown."""
_SIDES = {
    "chosen": "The chosen answer",
    "rejected": "The rejected answer",
    "query": "The query",
    "positive": "A passage that answers",
    "negative": "A passage that does not",
}
_RANKED = frozenset({"query", "positive", "negative"})
"""Sides of queries with passages, no token of which is learnt."""


_EMBEDDING = "As for embedding: what is learnt is the vector of each text; no token is."
_RERANK = (
    "As for rerank: each text is the query with one passage, and what is learnt is its score; no "
    "token is."
)


def rows_panel(door: Door, job: Thing) -> None:
    """Add what shows any row of the files of `job`."""
    asked = {"file": "training"}

    async def read(line: str) -> Thing:
        return await door.get(job_path(job["id"], "receipt", "lines", line), file=asked["file"])

    with panel("A row as the model sees it"):
        _key()
        with Tag("div", classes="pair"):
            looking = _Looking(read)
            if job.get("validation_file"):
                choice(
                    "Which file",
                    {"training": "training file", "validation": "validation file"},
                    hear=lambda file: asked.update(file=file),
                )
        looking.place()


def file_rows_panel(
    door: Door, file_id: str, *, models: Sequence[str], options: Mapping[str, str]
) -> None:
    """Add what shows any row of a file as one of `models` would see it, and show the first.

    `options` may change meanwhile: what was chosen for the file's report.
    """
    if not models:
        return
    asked = {"model": models[0]}

    async def read(line: str) -> Thing:
        return await door.get(
            f"/files/{quoted(file_id)}/rows/{line}",
            patience=_PATIENCE,
            model=asked["model"],
            method=options.get("method"),
        )

    with panel("A row as the model sees it"):
        _key()
        with Tag("div", classes="pair"):
            looking = _Looking(read)
            choice(
                "Model that sees it",
                {each: each for each in models},
                hear=lambda model: asked.update(model=model),
            )
        looking.place()
    stop_with(background_tasks.create(looking.look(), name="first row of a file"))


class _Looking:
    """Asks for a line by its number, and shows what became of it."""

    def __init__(self, read: Callable[[str], Awaitable[Thing]]) -> None:
        """Add the field for the line, which `read` will be given."""
        self._read = read
        self._line = "1"
        field("Line of the file", self._hear, value="1", kind="number", min="1")

    def place(self) -> None:
        """Add the button and the place of the row."""
        button("Show the row", self.look)
        self._shown = Tag("div", aria_live="polite")

    def _hear(self, line: object) -> None:
        self._line = str(line)

    async def look(self) -> None:
        """Show the line, or why it cannot be shown."""
        line = self._line if self._line.isdecimal() else "1"
        found, why = None, ""
        try:
            found = await self._read(line)
        except RefusedError as refused:
            why = refused.message
        self._shown.clear()
        with self._shown:
            if found is None:
                note(why, kind="warn")
            else:
                show_line(found)


def _key() -> None:
    with Tag("p", classes="note"):
        Tag("span", "What has this ground")
        Tag("span", " ")
        Tag("span", "is learnt", classes="key learnt")
        Tag("span", "; the rest is read, and nothing is learnt from it.")


def show_line(found: Thing) -> None:
    """Add a line, as `…/receipt/lines/{line}` or `…/rows/{line}` tells of it."""
    aside = found.get("set_aside")
    if aside:
        note(f"This row is set aside: {aside.get('reason') or aside.get('rule')}", kind="warn")
    sides = {text.get("side") for text in found["texts"]}
    if not sides.isdisjoint(_RANKED):
        note(_EMBEDDING if "query" in sides else _RERANK)
    for text in found["texts"]:
        tokens = text["tokens"]
        words = [f"{number(len(tokens))} tokens"]
        if text.get("side") not in _RANKED:
            words.append(f"{number(text.get('tokens_learnt'))} learnt")
        if text.get("split"):
            words.append("held out" if text["split"] == "held_out" else "trained on")
        if text.get("cut"):
            words.append("cut at its end")
        side = _SIDES.get(text.get("side") or "", text.get("side") or "")
        note(f"{side + ': ' if side else ''}{', '.join(words)}.")
        with Tag("div", classes="tokens", tabindex="0", role="region", aria_label="Tokens"):
            for words_, learnt in _stretches(tokens[:_MOST]):
                # A screen reader tells marked text apart, and a span it does not.
                Tag("mark" if learnt else "span", words_, classes="learnt" if learnt else "")
        if len(tokens) > _MOST:
            note(f"{number(len(tokens) - _MOST)} more tokens follow.")


def _stretches(tokens: list[Thing]) -> list[tuple[str, bool]]:
    """Join neighbours that are alike, so that a long row is quick to show."""
    found: list[tuple[str, bool]] = []
    for token in tokens:
        if found and found[-1][1] == token["learnt"]:
            found[-1] = (found[-1][0] + token["text"], token["learnt"])
        else:
            found.append((token["text"], token["learnt"]))
    return found
