"""What watches the service is told whether it can do its work, without a key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tunesmith.api.app import create_app
from tunesmith.domain.disk import Disk
from tunesmith.domain.liveness import CONTROLLER, LEASE_LIFE, PATIENCE, STANDBY, SignOfLife


def sign(world: Any, *, cluster_up: bool = True) -> None:
    now = int(world.clock.now())
    world.store.give_sign(SignOfLife(process=CONTROLLER, at=now, cluster_up=cluster_up))


def test_a_service_whose_controller_and_cluster_live_is_ready(http: TestClient, world: Any) -> None:
    sign(world)
    answer = http.get("/ready")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ready",
        "store": True,
        "controller": True,
        "cluster": True,
        "standby": False,
        "disk": True,
        "missing": [],
    }


def test_it_is_told_whether_another_controller_would_take_over(
    http: TestClient, world: Any
) -> None:
    sign(world)
    world.store.take_lease(STANDBY, "second")
    assert http.get("/ready").json()["standby"] is True

    world.clock.advance(LEASE_LIFE)
    assert http.get("/ready").json()["standby"] is False


def test_a_service_whose_controller_never_came_up_is_not_ready(http: TestClient) -> None:
    answer = http.get("/ready")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.json()["missing"] == ["The controller has given no sign of life yet."]
    assert (answer.json()["store"], answer.json()["controller"]) == (True, False)


def test_a_service_whose_controller_died_is_not_ready(http: TestClient, world: Any) -> None:
    sign(world)
    world.clock.advance(PATIENCE)
    assert http.get("/ready").status_code == 200
    world.clock.advance(1)
    answer = http.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["missing"] == ["The controller has given no sign of life for 31 s."]


def test_a_service_without_a_cluster_is_not_ready(http: TestClient, world: Any) -> None:
    sign(world, cluster_up=False)
    answer = http.get("/ready")
    assert answer.status_code == 503
    assert (answer.json()["controller"], answer.json()["cluster"]) == (True, False)
    assert "Ray" in answer.json()["missing"][0]


def test_a_service_whose_database_fails_is_alive_but_not_ready(
    http: TestClient, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(world.store, "last_sign", fail)
    answer = http.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["store"] is False
    assert "secret" not in answer.text
    assert http.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("path", "status"), [("/health", 200), ("/ready", 503), ("/v1/health_check", 200)]
)
def test_no_key_is_needed(world: Any, path: str, status: int) -> None:
    app = create_app(replace(world.services, open_without_keys=False))
    with TestClient(app) as client:
        assert client.get(path).status_code == status
        assert client.get("/v1/models").status_code == 401


@pytest.mark.parametrize("signed", [True, False])
def test_a_service_whose_disk_has_too_little_room_is_not_ready(world: Any, signed: bool) -> None:
    if signed:
        sign(world)
    disk = Disk(Path(), floor=2**30, free=lambda _: 2**20)
    http = TestClient(create_app(replace(world.services, disk=disk)))
    answer = http.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["disk"] is False
    assert answer.json()["status"] == "unready"
    assert answer.json()["missing"][-1].startswith("The disk of the data folder has 1.0 MiB free")
