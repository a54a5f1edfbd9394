"""What all pages share: header, navigation, light and dark, and how a refusal is shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote

from fastapi.responses import RedirectResponse, Response
from nicegui import ui

from tunesmith.dashboard.door import Door, RefusedError
from tunesmith.dashboard.parts import Tag, link, note
from tunesmith.dashboard.session import Sessions

_PLACES = {
    "/": "Home",
    "/files": "Files",
    "/new": "New job",
    "/compare": "Compare",
    "/models": "Models",
    "/playground": "Playground",
}

Building = Callable[[Door], Awaitable[None]]
"""Fills a page with what comes through the door."""


@dataclass(frozen=True)
class Site:
    """What every page needs."""

    sessions: Sessions
    """Who is signed in."""
    max_upload_bytes: int
    """Largest file that the service takes in one request, in bytes."""

    async def show(self, title: str, *, place: str, build: Building) -> Response | None:
        """Show a page; who has to sign in first is sent to do so, and back to `place`."""
        door = self.sessions.door()
        with frame(title, place=place, signed_in=self.sessions.signed_in):
            try:
                await build(door)
            except RefusedError as refused:
                if refused.needs_key:
                    return RedirectResponse(f"/sign-in?next={quote(place)}", status_code=303)
                note(refused.message, kind="bad").give(role="alert")
        return None


@contextmanager
def frame(title: str, *, place: str, signed_in: bool) -> Iterator[None]:
    """Add what surrounds a page, and go on inside its main part."""
    ui.page_title(f"{title} · Tunesmith")
    surrounding = ui.context.client.content.parent_slot
    if surrounding is not None:
        # It is a second `main` around the header and ours.
        surrounding.parent.props("role=presentation")
    Tag("a", "Skip to the content", classes="skip", href="#main")
    with Tag("header", classes="top"):
        link("Tunesmith", "/", classes="brand")
        with Tag("nav", aria_label="Pages"):
            for path, words in _PLACES.items():
                here = place == path or (path != "/" and place.startswith(f"{path}/"))
                link(words, path, aria_current="page" if here else None)
        with Tag("div", classes="tools"):
            link("API", "/docs")
            Tag("button", "Dark", classes="button quiet", type="button", data_theme_switch="").on(
                "click", js_handler="() => tunesmith.switchTheme()"
            )
            if signed_in:
                link("Sign out", "/sign-out")
    with Tag("main", id="main", tabindex="-1"):
        Tag("h1", title)
        yield
