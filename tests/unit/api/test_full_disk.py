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
from tunesmith.domain.disk import Disk
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
    # Else OpenAI's clients would send all of it twice more.
    assert answer.headers["x-should-retry"] == "false"
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


@pytest.fixture
def nearly_full(world: Any, http: TestClient) -> TestClient:
    """The same service, with a file, on a disk that has just the room that is kept free."""
    assert http.post("/v1/files", **UPLOAD).status_code == 200
    disk = Disk(Path(), floor=1000, free=lambda _: 999)
    return TestClient(create_app(replace(world.services, disk=disk)))


def json_post(path: str, **body: object) -> tuple[str, dict[str, Any]]:
    return path, {"json": body}


@pytest.mark.parametrize(
    ("path", "request_"),
    [
        ("/v1/files", UPLOAD),
        json_post("/v1/uploads", purpose="fine-tune", filename="a", bytes=1, mime_type="text/json"),
        json_post("/v1/fine_tuning/jobs", model="org/tiny-llama", training_file="FILE"),
        json_post("/v1/fine_tuning/jobs", model="org/tiny-llama", training_file="a.jsonl"),
        json_post("/v1/fine_tuning/estimate", model="org/tiny-llama", training_file="FILE"),
        json_post("/v1/exports", model="ft:tiny:acme::x", format="merged"),
        ("/v1/files/FILE/repair", {}),
    ],
)
def test_what_is_new_is_refused_where_it_would_take_what_is_kept_free(
    nearly_full: TestClient, world: Any, path: str, request_: dict[str, Any]
) -> None:
    [file] = world.store.list_files(purpose=None, after=None, limit=9, order="asc").items
    if request_.get("json", {}).get("training_file") == "FILE":
        request_ = {"json": request_["json"] | {"training_file": file.id}}
    answer = nearly_full.post(path.replace("FILE", file.id), **request_)
    assert answer.status_code == 507, answer.text
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "disk_full")
    assert error["message"].startswith("The disk of the data folder has 999 bytes free")
    assert len(world.artifacts.list("files")) == 1
    assert world.store.list_jobs(after=None, limit=9).items == ()


def test_what_is_there_can_be_read_and_deleted_then(nearly_full: TestClient, world: Any) -> None:
    [file] = world.store.list_files(purpose=None, after=None, limit=9, order="asc").items
    assert nearly_full.get(f"/v1/files/{file.id}/content").content == b"{}"
    assert nearly_full.delete(f"/v1/files/{file.id}").json()["deleted"] is True


def test_an_upload_of_an_announced_size_is_refused_before_it_is_sent(world: Any) -> None:
    disk = Disk(Path(), floor=1000, free=lambda _: 50_000)
    http = TestClient(create_app(replace(world.services, disk=disk)))
    body = {"purpose": "fine-tune", "filename": "a", "mime_type": "text/json"}
    assert http.post("/v1/uploads", json=body | {"bytes": 49_001}).status_code == 507
    assert http.post("/v1/uploads", json=body | {"bytes": 49_000}).status_code == 200
