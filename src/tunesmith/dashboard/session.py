"""Who is signed in: the keys of this process's visitors, which no browser holds."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

from nicegui import app

from tunesmith.dashboard.door import Door

_IDLE = 12 * 3600.0
"""Seconds without a page after which a visitor is signed out."""

_NUMBER = "visitor"
"""The key of the browser's cookie under which it holds the number of its visit."""


@dataclass
class _Visitor:
    door: Door
    seen: float


@dataclass
class Sessions:
    """The doors of the visitors that are signed in, in memory alone.

    A browser holds a signed cookie with a number that is drawn at random each time that
    somebody signs in, so that a cookie of before, which others may have seen or set, opens
    nothing. When the service starts again, its visitors sign in again.
    """

    address: str
    """The service, `http://127.0.0.1:8015`."""
    _visitors: dict[str, _Visitor] = field(default_factory=dict)
    _closing: set[asyncio.Task[None]] = field(default_factory=set)
    _next_look: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        """Begin with nobody."""
        self._open = Door(self.address)

    def door(self) -> Door:
        """Return the door of who asks for the page; without a key for who is not signed in."""
        self._end_idle()
        visitor = self._visitors.get(_number())
        if visitor is None:
            return self._open
        visitor.seen = time.monotonic()
        return visitor.door

    def sign_in(self, key: str) -> None:
        """Remember `key`, which the service has taken, for the visitor, under a new number.

        To be called before the answer to the visitor's browser begins, which takes the number.
        """
        self.sign_out()
        number = _browser()[_NUMBER] = secrets.token_urlsafe(32)
        self._visitors[number] = _Visitor(Door(self.address, key), time.monotonic())
        self._end_idle()

    def sign_out(self) -> None:
        """Forget the visitor's key, also where pages of the visitor are still open."""
        self._end(_number())
        _browser().pop(_NUMBER, None)

    @property
    def signed_in(self) -> bool:
        """Whether the visitor has given a key."""
        return _number() in self._visitors

    def _end_idle(self) -> None:
        """Sign out who was idle for too long, and see to it that this is looked at again."""
        now = time.monotonic()
        for number, each in list(self._visitors.items()):
            if now - each.seen >= _IDLE:
                self._end(number)
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
        if self._visitors:
            first = min(each.seen for each in self._visitors.values())
            loop = asyncio.get_running_loop()
            self._next_look = loop.call_later(first + _IDLE - now, self._end_idle)

    def _end(self, number: str) -> None:
        visitor = self._visitors.pop(number, None)
        if visitor is not None:
            task = asyncio.get_running_loop().create_task(visitor.door.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


def _number() -> str:
    return str(_browser().get(_NUMBER, ""))


def _browser() -> MutableMapping[str, Any]:
    """Return what the visitor's browser holds, which only an answer that is not begun changes."""
    return app.storage.browser
