"""Who is signed in: the keys of this process's visitors, which no browser holds."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from nicegui import app

from tunesmith.dashboard.door import Door

_IDLE = 12 * 3600
"""Seconds without a page after which a visitor is signed out."""


@dataclass
class _Visitor:
    door: Door
    seen: float


@dataclass
class Sessions:
    """The doors of the visitors that are signed in, in memory alone.

    A browser holds a signed cookie with a number drawn at random, and no more. When the
    service starts again, its visitors sign in again.
    """

    address: str
    """The service, `http://127.0.0.1:8015`."""
    _visitors: dict[str, _Visitor] = field(default_factory=dict)

    def door(self) -> Door:
        """Return the door of who asks for the page; without a key for who is not signed in."""
        now = time.monotonic()
        for session, each in list(self._visitors.items()):
            if now - each.seen > _IDLE:
                del self._visitors[session]
        visitor = self._visitors.get(_session())
        if visitor is None:
            return self._open
        visitor.seen = now
        return visitor.door

    def sign_in(self, key: str) -> None:
        """Remember `key`, which the service has taken, for the visitor."""
        self._visitors[_session()] = _Visitor(Door(self.address, key), time.monotonic())

    def sign_out(self) -> None:
        """Forget the visitor's key."""
        self._visitors.pop(_session(), None)

    @property
    def signed_in(self) -> bool:
        """Whether the visitor has given a key."""
        return _session() in self._visitors

    def __post_init__(self) -> None:
        """Begin with nobody."""
        self._open = Door(self.address)


def _session() -> str:
    return str(app.storage.browser["id"])
