"""Shows a row as a model sees it: what is learnt in brackets, and green on a terminal."""

from __future__ import annotations

from itertools import groupby

import typer

from tunesmith.cli.service import Object

_RANKED = ("query", "positive", "negative")
"""Sides of queries with passages, no token of which is learnt."""


def row_lines(found: Object) -> str:
    """Return a line of a receipt, or a row of a file, as lines for a person to read."""
    lines = [
        f"Line {found['line']}" + (f", element {found['element']}" if found["element"] else "")
    ]
    lines += _what_is_learnt(found["texts"])
    aside = found["set_aside"]
    if aside:
        lines.append(f"set aside: {aside['rule']}: {aside['reason']}")
    for text in found["texts"]:
        lines += ["", f"{_head(text)}:", _marked(text["tokens"])]
    return "\n".join(lines)


def _what_is_learnt(texts: list[Object]) -> list[str]:
    """Return a line for rows of which no token is learnt."""
    sides = {text["side"] for text in texts}
    if sides.isdisjoint(_RANKED):
        return []
    if "query" in sides:
        return ["embedding: what is learnt is the vector of each text; no token is"]
    return ["rerank: what is learnt is the score of query and passage; no token is"]


def _head(text: Object) -> str:
    words = [f"{len(text['tokens']):,} tokens"]
    if text["side"]:
        words.insert(0, text["side"])
    if text["side"] not in _RANKED:
        words.append(f"{text['tokens_learnt']:,} learnt")
    if text["split"]:
        words.append("held out" if text["split"] == "held_out" else "trained on")
    if text["cut"]:
        words.append("cut at its end")
    return ", ".join(words)


def _marked(tokens: list[Object]) -> str:
    parts = []
    for learnt, stretch in groupby(tokens, key=lambda token: bool(token["learnt"])):
        text = "".join(token["text"] for token in stretch)
        # Where there are no colours, such as in a file, the brackets tell.
        parts.append(typer.style(f"⟦{text}⟧", fg="green") if learnt else text)
    return "".join(parts)
