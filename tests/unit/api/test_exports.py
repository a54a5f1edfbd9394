"""Exports are asked for, followed and downloaded, whole or in parts."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tunesmith.api.app import create_app
from tunesmith.api.ranges import part_of
from tunesmith.domain.exports import ExportFile, ExportStatus, PushFolder, PushHub
from tunesmith.domain.projects import DEFAULT_PROJECT
from unit.api.conftest import BASE, World

PATH = "/v1/exports"
CONTENT = {"model.safetensors": bytes(range(100)), "1_Pooling/config.json": b"{}"}


@pytest.fixture
def model(http: TestClient, world: World, upload: Callable[..., dict[str, Any]]) -> str:
    body = {"model": BASE, "training_file": upload()["id"]}
    job = http.post("/v1/fine_tuning/jobs", json=body).json()
    world.run(job["id"])
    name = world.finish(job["id"]).fine_tuned_model
    assert name is not None
    return name


@pytest.fixture
def export(http: TestClient, model: str) -> dict[str, Any]:
    answer = http.post(PATH, json={"model": model, "format": "merged"})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def finish(world: World, export: dict[str, Any]) -> None:
    """End the export, as the controller does."""
    seen = world.store.export(export["id"])
    for name, content in CONTENT.items():
        world.artifacts.put(f"exports/{seen.id}/files/{name}", content)
    files = tuple(
        ExportFile(name=name, bytes=len(content), sha256="abc") for name, content in CONTENT.items()
    )
    done = {"status": ExportStatus.SUCCEEDED, "files": files, "progress": 1.0, "finished_at": 9}
    world.store.change_export(seen, seen.model_copy(update=done))


def test_an_export_is_queued_at_first(http: TestClient, export: dict[str, Any], model: str) -> None:
    assert export["object"] == "model.export"
    assert export["id"].startswith("exp_")
    assert (export["status"], export["model"], export["progress"]) == ("queued", model, 0.0)
    for name in ("quantization", "push_to", "message", "error", "parity", "finished_at"):
        assert export[name] is None
    assert export["files"] == []
    assert http.get(f"{PATH}/{export['id']}").json() == export
    listed = http.get(PATH).json()
    assert (listed["data"], listed["has_more"]) == ([export], False)
    assert listed["first_id"] == listed["last_id"] == export["id"]


@pytest.mark.parametrize(
    ("change", "status", "param", "code"),
    [
        ({"model": BASE}, 400, "model", None),
        ({"model": "ft:none:x::y"}, 404, "model", "model_not_found"),
        ({"format": "onnx"}, 400, "format", None),
        ({"quantization": "q8_0"}, 400, "quantization", None),
        ({"format": "adapter", "quantization": "f16"}, 400, "quantization", None),
        ({"push_to": "mine"}, 400, "push_to", "push_not_allowed"),
        ({"push_to": "hub:me/mine"}, 400, "push_to", "push_not_allowed"),
        ({"sort": "x"}, 400, "sort", "unknown_key"),
    ],
)
def test_what_cannot_be_made_is_refused(  # each case names the field and its code
    http: TestClient,
    model: str,
    change: dict[str, Any],
    status: int,
    param: str,
    code: str | None,
) -> None:
    answer = http.post(PATH, json={"model": model, "format": "merged", **change})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param), error
    if code is not None:
        assert error["code"] == code


def pushed(world: World, model: str, to: str) -> Any:
    services = replace(world.services, push_folder=Path("/out"), push_hub_owner="acme")
    with TestClient(create_app(services)) as http:
        return http.post(PATH, json={"model": model, "format": "merged", "push_to": to})


def test_files_go_below_the_operators_folder_and_to_their_owner_alone(
    world: World, model: str
) -> None:
    for to, place in (
        ("team/mine", PushFolder(path=Path("/out") / DEFAULT_PROJECT / "team" / "mine")),
        ("hub:acme/mine", PushHub(repo="acme/mine")),
    ):
        made = pushed(world, model, to).json()
        assert made["push_to"] == to
        assert world.store.export(made["id"]).push == place
    for bad in ("/etc/passwd", "../up", "a/../../b", ".hidden", "a//b", "hub:other/x", "hub:acme"):
        answer = pushed(world, model, bad)
        assert answer.status_code == 400, bad
        assert answer.json()["error"]["param"] == "push_to"


def test_files_are_there_once_it_has_succeeded(
    http: TestClient, world: World, export: dict[str, Any]
) -> None:
    for path in ("content", "content/model.safetensors"):
        early = http.get(f"{PATH}/{export['id']}/{path}")
        assert (early.status_code, early.json()["error"]["code"]) == (409, "export_not_ready")
    finish(world, export)
    for name, content in CONTENT.items():
        answer = http.get(f"{PATH}/{export['id']}/content/{name}")
        assert (answer.status_code, answer.content) == (200, content)
        assert answer.headers["etag"] == '"abc"'
        assert answer.headers["accept-ranges"] == "bytes"
    missing = http.get(f"{PATH}/{export['id']}/content/other")
    assert (missing.status_code, missing.json()["error"]["param"]) == (404, "name")


def test_a_download_goes_on_where_it_was_cut(
    http: TestClient, world: World, export: dict[str, Any]
) -> None:
    finish(world, export)
    path = f"{PATH}/{export['id']}/content/model.safetensors"
    part = http.get(path, headers={"Range": "bytes=90-"})
    assert (part.status_code, part.content) == (206, bytes(range(90, 100)))
    assert part.headers["content-range"] == "bytes 90-99/100"
    assert part.headers["content-length"] == "10"
    behind = http.get(path, headers={"Range": "bytes=100-"})
    assert (behind.status_code, behind.headers["content-range"]) == (416, "bytes */100")


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        (None, None),
        ("bytes=0-9", (0, 10)),
        ("bytes=95-200", (95, 100)),
        ("bytes=-5", (95, 100)),
        ("bytes=-500", (0, 100)),
        ("bytes=-0", (100, 100)),
        ("bytes=200-", (200, 200)),
        # Of what is not understood, the whole file is the answer.
        ("bytes=9-0", None),
        ("bytes=-", None),
        ("bytes=0-1,5-6", None),
        ("lines=1-2", None),
    ],
)
def test_parts_are_read_as_http_has_them(wanted: str | None, part: tuple[int, int] | None) -> None:
    assert part_of(wanted, size=100) == part


def test_all_files_come_as_one_archive(
    http: TestClient, world: World, export: dict[str, Any]
) -> None:
    finish(world, export)
    answer = http.get(f"{PATH}/{export['id']}/content")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == CONTENT
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_an_export_that_is_over_is_not_cancelled_but_deleted(
    http: TestClient, world: World, export: dict[str, Any]
) -> None:
    early = http.delete(f"{PATH}/{export['id']}")
    assert (early.status_code, early.json()["error"]["code"]) == (409, "export_running")
    finish(world, export)
    late = http.post(f"{PATH}/{export['id']}/cancel")
    assert (late.status_code, late.json()["error"]["code"]) == (400, "export_ended")
    gone = http.delete(f"{PATH}/{export['id']}").json()
    assert gone == {"id": export["id"], "object": "model.export.deleted", "deleted": True}
    assert world.artifacts.list("exports") == []
    assert http.get(f"{PATH}/{export['id']}").status_code == 404


def test_an_export_is_cancelled(http: TestClient, export: dict[str, Any]) -> None:
    cancelled = http.post(f"{PATH}/{export['id']}/cancel").json()
    assert cancelled["status"] == "cancelled"
    assert cancelled["finished_at"] is not None


def test_exports_go_with_their_model(
    http: TestClient, world: World, export: dict[str, Any], model: str
) -> None:
    busy = http.delete(f"/v1/models/{model}")
    assert (busy.status_code, busy.json()["error"]["code"]) == (409, "model_in_use")
    finish(world, export)
    assert http.delete(f"/v1/models/{model}").status_code == 200
    assert http.get(f"{PATH}/{export['id']}").status_code == 404
    assert world.artifacts.list("exports") == []
