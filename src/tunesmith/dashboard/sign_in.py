"""Sign in with an API key, and out."""

from __future__ import annotations

import re

from fastapi.responses import RedirectResponse, Response
from nicegui import ui

from tunesmith.dashboard.door import NO_KEY, Door, RefusedError
from tunesmith.dashboard.frame import Site, frame
from tunesmith.dashboard.parts import Tag, note

_SUBMIT = """(event) => {
  event.preventDefault();
  emit(event.target.querySelector("input").value);
}"""


def add_pages(site: Site) -> None:
    """Add `/sign-in` and `/sign-out`."""

    @ui.page("/sign-in")
    async def sign_in(next: str = "/") -> Response | None:  # noqa: A002  the key of the query
        after = _own_path(next)
        if await _is_taken(site.sessions.door()):
            return RedirectResponse(after, status_code=303)
        with frame("Sign in", place="/sign-in", signed_in=False):
            _form(site, after)
        return None

    @ui.page("/sign-out")
    async def sign_out() -> Response:
        site.sessions.sign_out()
        return RedirectResponse("/sign-in", status_code=303)


def _form(site: Site, after: str) -> None:
    note(
        "Sign in with an API key of this service. The operator makes one with "
        "`tunesmith keys create`. It stays with the service; your browser does not keep it."
    )

    async def sign_in(key: str) -> None:
        door = Door(site.sessions.address, key or NO_KEY)
        try:
            await door.get("/files", limit=1)
        except RefusedError as refused:
            fault.say(refused.message)
            fault.give(hidden=None)
            box.give(aria_invalid="true", aria_describedby=fault.html_id)
            return
        finally:
            await door.close()
        site.sessions.sign_in(key)
        ui.navigate.to(after)

    with Tag("form", classes="panel narrow") as form:
        with Tag("div", classes="field"):
            named = Tag("label", "API key")
            box = Tag("input", type="password", autocomplete="current-password", required=True)
            named.give(for_=box.html_id)
        fault = Tag("p", classes="note bad", role="alert", hidden=True)
        Tag("button", "Sign in", classes="button main", type="submit")
    form.on("submit", lambda told: sign_in(str(told.args).strip()), js_handler=_SUBMIT)


async def _is_taken(door: Door) -> bool:
    try:
        await door.get("/files", limit=1)
    except RefusedError as refused:
        return not refused.needs_key
    return True


def _own_path(path: str) -> str:
    """Return `path` if it is one of this page's, and its first page else."""
    # Browsers leave blanks out of addresses, and read a backslash as a slash.
    inside = re.fullmatch(r"/(?![/\\])[^\x00-\x20\\]*", path)
    return path if inside else "/"
