"""A full disk is told as such, wherever an upload meets it."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tunesmith.api.app import create_app
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.domain.errors import DiskFullError

UPLOAD: dict[str, Any] = {
    "files": {"file": ("a.jsonl", b"{}")},
    "data": {"purpose": "fine-tune"},
}


def no_room(*_: object, **__: object) -> None:
    raise DiskFullError


@pytest.mark.parametrize(("door", "name"), [("artifacts", "put"), ("store", "add_file")])
def test_an_upload_that_finds_no_room_is_answered_with_507(
    http: TestClient, world: Any, monkeypatch: pytest.MonkeyPatch, door: str, name: str
) -> None:
    monkeypatch.setattr(getattr(world, door), name, no_room)
    answer = http.post("/v1/files", **UPLOAD)
    assert answer.status_code == 507
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "disk_full")
    assert error["message"].startswith("The service's disk is full.")
    assert world.artifacts.list("files") == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_form_that_finds_no_room_on_its_way_is_answered_with_507(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def write(*_: object) -> int:
        raise OSError(number, "No room")

    services = replace(world.services, artifacts=LocalArtifacts(tmp_path))
    monkeypatch.setattr("tunesmith.artifacts.local._write_all", write)
    answer = TestClient(create_app(services)).post("/v1/files", **UPLOAD)
    assert answer.status_code == 507
    assert answer.json()["error"]["code"] == "disk_full"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_opeas_own_routes_tell_it_in_their_own_shape(
    http: TestClient, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.store, "cancel_job", no_room)
    answer = http.post("/v1/fine_tuning/jobs/cancel", json={"fine_tuning_job_id": "x"})
    assert answer.status_code == 507
    assert answer.json()["detail"].startswith("The service's disk is full.")
