"""Whether there is a page, and where it finds the API."""

from __future__ import annotations

import ipaddress
import socket
from importlib.util import find_spec
from pathlib import Path

from tunesmith.dashboard.late import LatePage

FOLDER = "page"
"""Folder inside the data folder for what signs the visitors' cookies."""


def open_page(listener: socket.socket, *, data: Path, max_upload_bytes: int) -> LatePage | None:
    """Return the page over the service that listens; `None` where its extra is not installed.

    The service takes files of at most `max_upload_bytes`.
    """
    if find_spec("nicegui") is None:
        return None
    return LatePage(
        lambda: own_address(listener), folder=data / FOLDER, max_upload_bytes=max_upload_bytes
    )


def own_address(listener: socket.socket) -> str:
    """Return how this machine reaches what listens, such as `http://127.0.0.1:8015`."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
