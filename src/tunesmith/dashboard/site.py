"""Put the pages together into one application."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from fastapi import FastAPI
from nicegui import app, ui
from nicegui.storage import Storage
from starlette.types import ASGIApp

from tunesmith.dashboard import (
    compare,
    downloads,
    files,
    home,
    job,
    models,
    new_job,
    playground,
    sign_in,
    uploads,
    validation,
)
from tunesmith.dashboard.frame import Site
from tunesmith.dashboard.session import Sessions

_STATIC = Path(__file__).parent / "static"

_COOKIE = {"session_cookie": "tunesmith_session", "same_site": "strict", "max_age": 7 * 24 * 3600}
"""The cookie is never shown to scripts, nor sent along with what other sites ask for."""


def make_page(address: str, *, folder: Path, max_upload_bytes: int) -> ASGIApp:
    """Return the page over the service at `address`; `folder` keeps what signs its cookies.

    The service takes files of at most `max_upload_bytes`.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    Storage.path = folder
    site = Site(Sessions(address), max_upload_bytes)
    for each in (home, files, validation, new_job, job, compare, models, playground, sign_in):
        each.add_pages(site)
    downloads.add_routes(app, site)
    uploads.add_routes(app, site)
    sign_in.add_routes(app, site)
    app.add_static_files("/assets", _STATIC)
    version = _version()
    ui.add_head_html(
        f'<link rel="stylesheet" href="/assets/page.css?{version}">'
        f'<script src="/assets/page.js?{version}"></script>',
        shared=True,
    )
    # Uploads show their own progress; this bar has no name that a screen reader could speak.
    app.config.quasar_config["loadingBar"] = {"skipHijack": True}
    shell = FastAPI(openapi_url=None)
    ui.run_with(
        shell,
        title="Tunesmith",
        favicon=_STATIC / "favicon.svg",
        language="en-GB",
        tailwind=False,
        reconnect_timeout=10.0,
        show_welcome_message=False,
        storage_secret=_secret(folder / "cookie_secret"),
        session_middleware_kwargs=dict(_COOKIE),
    )
    return shell


def _secret(path: Path) -> str:
    """Return the secret that signs cookies, drawn once and readable by the service alone."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        found = path.read_text(encoding="ascii")
        if found:
            return found
        path.unlink()
        return _secret(path)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        drawn = secrets.token_urlsafe(32)
        file.write(drawn)
    return drawn


def _version() -> str:
    """Return what changes when the files do that a browser may keep."""
    return str(max(int(path.stat().st_mtime) for path in _STATIC.iterdir()))
