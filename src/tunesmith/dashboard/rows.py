"""A row of a file as the model sees it: its tokens, those that are learnt in colour."""

from __future__ import annotations

from tunesmith.dashboard.door import Door, RefusedError, Thing, job_path
from tunesmith.dashboard.parts import Tag, button, choice, field, note, panel
from tunesmith.dashboard.words import number

_MOST = 4000
"""Tokens of one text that are shown."""
_SIDES = {"chosen": "The chosen answer", "rejected": "The rejected answer"}


def rows_panel(door: Door, job: Thing) -> None:
    """Add what shows any row of the files of `job`."""
    asked = {"line": "1", "file": "training"}
    with panel("A row as the model sees it"):
        _key()
        with Tag("div", classes="pair"):
            field(
                "Line of the file",
                lambda line: asked.update(line=line),
                value="1",
                kind="number",
                min="1",
            )
            if job.get("validation_file"):
                choice(
                    "Which file",
                    {"training": "training file", "validation": "validation file"},
                    hear=lambda file: asked.update(file=file),
                )

        async def look() -> None:
            line = asked["line"] if str(asked["line"]).isdecimal() else "1"
            place.clear()
            with place:
                try:
                    found = await door.get(
                        job_path(job["id"], "receipt", "lines", line), file=asked["file"]
                    )
                except RefusedError as refused:
                    note(refused.message, kind="warn")
                    return
                show_line(found)

        button("Show the row", look)
        place = Tag("div", aria_live="polite")


def _key() -> None:
    with Tag("p", classes="note"):
        Tag("span", "What has this ground")
        Tag("span", " ")
        Tag("span", "is learnt", classes="key learnt")
        Tag("span", "; the rest is read, and nothing is learnt from it.")


def show_line(found: Thing) -> None:
    """Add a line, as `…/receipt/lines/{line}` tells of it."""
    aside = found.get("set_aside")
    if aside:
        note(f"This row is set aside: {aside.get('reason') or aside.get('rule')}", kind="warn")
    for text in found["texts"]:
        tokens = text["tokens"]
        words = [f"{number(len(tokens))} tokens", f"{number(text.get('tokens_learnt'))} learnt"]
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
