"""Who is signed in: a new number for each sign-in, and no door that outlives its session."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tunesmith.dashboard import session
from tunesmith.dashboard.door import RefusedError
from tunesmith.dashboard.session import Sessions


@pytest.fixture
def cookie(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the visitor's browser holds."""
    held: dict[str, Any] = {"id": "drawn upon the first visit"}
    monkeypatch.setattr(session, "_browser", lambda: held)
    return held


def sessions() -> Sessions:
    return Sessions("http://127.0.0.1:1")


def test_a_cookie_from_before_the_sign_in_opens_nothing(cookie: dict[str, Any]) -> None:
    async def visit() -> None:
        known = sessions()
        before = dict(cookie)
        known.sign_in("sk-ts-mine")
        assert known.signed_in
        assert known.door().key == "sk-ts-mine"

        mine = dict(cookie)
        cookie.clear()
        cookie.update(before)
        assert not known.signed_in
        assert known.door().key != "sk-ts-mine"

        cookie.update(mine)
        known.sign_in("sk-ts-other")
        assert cookie["visitor"] != mine["visitor"]
        cookie.update(mine)
        assert not known.signed_in

    asyncio.run(visit())


def test_the_door_of_who_signs_out_is_closed_to_pages_that_are_still_open(
    cookie: dict[str, Any],
) -> None:
    async def visit() -> None:
        known = sessions()
        known.sign_in("sk-ts-mine")
        door = known.door()
        known.sign_out()
        await asyncio.gather(*known._closing)

        assert "visitor" not in cookie
        with pytest.raises(RefusedError) as refused:
            await door.get("/files")
        assert refused.value.needs_key

    asyncio.run(visit())


def test_who_is_idle_is_signed_out_though_nobody_else_comes(
    cookie: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def visit() -> None:
        known = sessions()
        known.sign_in("sk-ts-mine")
        door = known.door()
        monkeypatch.setattr(session, "_IDLE", 0.0)
        known.door()
        await asyncio.gather(*known._closing)

        assert door.closed
        assert not known.signed_in
        assert known._next_look is None

    async def wait() -> None:
        known = sessions()
        monkeypatch.setattr(session, "_IDLE", 0.01)
        known.sign_in("sk-ts-mine")
        told = asyncio.Event()
        monkeypatch.setattr(known, "_end", lambda number: told.set())
        await told.wait()

    asyncio.run(visit())
    asyncio.run(wait())
