"""Sign in with an API key, and out."""

from __future__ import annotations

import re
from io import BytesIO

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from nicegui import ui

from tunesmith.dashboard.door import NO_KEY, Door, RefusedError
from tunesmith.dashboard.frame import Site, frame
from tunesmith.dashboard.parts import Tag, note
from tunesmith.dashboard.uploads import keep

_SUBMIT = """async (event) => {
  event.preventDefault();
  const answer = await fetch("/sign-in/key", {
    method: "POST",
    headers: {"X-Tunesmith-Page": "1", "Content-Type": "text/plain"},
    body: event.target.querySelector("input").value,
  });
  emit(answer.ok ? "" : (await answer.json()).message);
}"""
"""An answer to a request alone can give the browser the number of its visit."""

_LONGEST = 4096
"""Bytes of the longest key."""


def add_pages(site: Site) -> None:
    """Add `/sign-in` and `/sign-out`."""

    @ui.page("/sign-in")
    async def sign_in(next: str = "/") -> Response | None:  # noqa: A002  the key of the query
        after = _own_path(next)
        if await _is_taken(site.sessions.door()):
            return RedirectResponse(after, status_code=303)
        with frame("Sign in", place="/sign-in", signed_in=False):
            _form(after)
        return None

    @ui.page("/sign-out")
    async def sign_out() -> Response:
        site.sessions.sign_out()
        return RedirectResponse("/sign-in", status_code=303)


def add_routes(app: FastAPI, site: Site) -> None:
    """Add `/sign-in/key`, which takes a key from the page."""

    @app.post("/sign-in/key", include_in_schema=False)
    async def take_key(request: Request) -> JSONResponse:
        # A form of another site cannot send this header.
        if request.headers.get("x-tunesmith-page") != "1":
            return JSONResponse({"message": "Keys come from the page alone."}, 403)
        given = BytesIO()
        try:
            await keep(request.stream(), given, most=_LONGEST)
            key = given.getvalue().decode(errors="replace").strip()
            await _try(Door(site.sessions.address, key or NO_KEY))
        except RefusedError as refused:
            return JSONResponse({"message": refused.message}, refused.status or 503)
        site.sessions.sign_in(key)
        return JSONResponse({})


async def _try(door: Door) -> None:
    try:
        await door.get("/files", limit=1)
    finally:
        await door.close()


def _form(after: str) -> None:
    note(
        "Sign in with an API key of this service. The operator makes one with "
        "`tunesmith keys create`. It stays with the service; your browser does not keep it."
    )

    def told(refusal: str) -> None:
        if not refusal:
            ui.navigate.to(after)
            return
        fault.say(refusal)
        fault.give(hidden=None)
        box.give(aria_invalid="true", aria_describedby=fault.html_id)

    with Tag("form", classes="panel narrow") as form:
        with Tag("div", classes="field"):
            named = Tag("label", "API key")
            box = Tag("input", type="password", autocomplete="current-password", required=True)
            named.give(for_=box.html_id)
        fault = Tag("p", classes="note bad", role="alert", hidden=True)
        Tag("button", "Sign in", classes="button main", type="submit")
    form.on("submit", lambda event: told(str(event.args)), js_handler=_SUBMIT)


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
