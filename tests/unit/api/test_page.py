"""The page's own paths lead to it, and all others to the API."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from tunesmith.api.app import create_app
from tunesmith.api.page import mount_page

if TYPE_CHECKING:
    from unit.api.conftest import World


class Page:
    """Answers everything, and keeps count of its life."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def warm(self) -> None:
        self.told.append("warm")

    async def close(self) -> None:
        self.told.append("closed")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("the page")(scope, receive, send)


@pytest.mark.parametrize("path", ["/", "/jobs/ftjob-1", "/_nicegui/1/static/a.js", "/sign-in"])
def test_a_path_of_the_page_is_its_own(world: World, path: str) -> None:
    app = create_app(world.services)
    mount_page(app, page := Page())
    with TestClient(app) as client:
        answer = client.get(path)

    assert answer.text == "the page"
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert page.told[-1] == "closed"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/none", 404),
        ("GET", "/nothing", 404),
        ("PUT", "/v1/files", 405),
        ("GET", "/health", 200),
        ("GET", "/docs", 200),
    ],
)
def test_every_other_path_stays_the_apis(world: World, method: str, path: str, status: int) -> None:
    plain, paged = create_app(world.services), create_app(world.services)
    mount_page(paged, Page())
    with TestClient(plain) as without, TestClient(paged) as page:
        answers = [client.request(method, path) for client in (without, page)]

    assert [answer.status_code for answer in answers] == [status, status]
    assert answers[0].text == answers[1].text


def test_without_the_page_the_first_path_says_so(world: World) -> None:
    app = create_app(world.services)
    mount_page(app, None)
    with TestClient(app) as client:
        answer = client.get("/")

    assert answer.status_code == 501
    assert "tunesmith[dashboard]" in answer.text


def test_a_page_of_another_site_opens_no_socket_of_an_open_service(world: World) -> None:
    app = create_app(replace(world.services, own_names=frozenset()))
    mount_page(app, Page())
    headers = {"Origin": "https://evil.example", "Host": "127.0.0.1"}
    with (
        TestClient(app) as client,
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/_nicegui_ws/socket.io", headers=headers),
    ):
        pass
