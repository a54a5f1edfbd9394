"""An open service answers its own machine, and no page of a web site that reaches for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from starlette.testclient import TestClient

from tunesmith.api.app import create_app
from tunesmith.domain.keys import Scope, new_key

if TYPE_CHECKING:
    from unit.api.conftest import World


@pytest.fixture
def local(world: World) -> Iterator[TestClient]:
    services = replace(world.services, own_names=frozenset({"tuner.lan"}))
    with TestClient(create_app(services), raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8015", "127.0.0.1:8015", "127.0.0.9", "[::1]:8015", "tuner.lan"],
)
def test_by_its_own_names_it_answers(local: TestClient, host: str) -> None:
    assert local.get("/v1/files", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8015",
        "192.168.0.7",
        "[::",
        "",
    ],
)
def test_a_name_that_leads_here_from_elsewhere_is_refused_with_the_mend(
    local: TestClient, host: str
) -> None:
    answer = local.get("/v1/files", headers={"Host": host})

    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "foreign_origin"
    assert f"asks for '{host}'" in answer.json()["error"]["message"]
    assert "127.0.0.1" in answer.json()["error"]["message"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "http://[::"])
def test_a_page_of_another_site_changes_nothing(
    local: TestClient, world: World, origin: str
) -> None:
    answer = local.post(
        "/v1/files",
        files={"file": ("a.jsonl", b"{}")},
        data={"purpose": "fine-tune"},
        headers={"Host": "127.0.0.1:8015", "Origin": origin},
    )

    assert answer.status_code == 403
    assert f"a page of '{origin}'" in answer.json()["error"]["message"]
    assert world.store.bytes_stored() == 0


def test_a_page_of_this_machine_is_answered(local: TestClient) -> None:
    headers = {"Host": "127.0.0.1:8015", "Origin": "http://localhost:3000"}
    assert local.get("/v1/files", headers=headers).status_code == 200


def test_the_health_is_told_to_everybody(local: TestClient) -> None:
    assert local.get("/health", headers={"Host": "evil.example"}).status_code == 200


def test_with_keys_the_name_does_not_matter(local: TestClient, world: World) -> None:
    secret, key = new_key("default", "t", scope=Scope.READ, now=0, expires_at=None)
    world.store.add_key(key)
    headers = {"Host": "tuner.example", "Authorization": f"Bearer {secret}"}
    assert local.get("/v1/files", headers=headers).status_code == 200
