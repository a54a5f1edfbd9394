"""A deletion that breaks off, wherever it does, can be done again and leaves no bytes behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from tunesmith.domain.errors import SystemFaultError
from tunesmith.store.sql import SqlStore

FILES = "/v1/files"


def failing(*_: object, **__: object) -> None:
    raise SystemFaultError


@pytest.fixture
def tuned(http: TestClient, world: Any, upload: Callable[..., dict[str, Any]]) -> Any:
    """Return a job that has succeeded."""
    body = {"model": "org/tiny-llama", "training_file": upload()["id"]}
    job_id = http.post("/v1/fine_tuning/jobs", json=body).json()["id"]
    world.run(job_id)
    return world.finish(job_id)


def bytes_of(world: Any, job_id: str) -> list[str]:
    return [*world.artifacts.list(f"output/{job_id}"), *world.artifacts.list(f"runs/{job_id}")]


def test_the_deletion_of_a_file_that_the_store_refuses_is_taken_up_again(
    http: TestClient,
    world: Any,
    upload: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file_id = upload()["id"]
    with monkeypatch.context() as patch:
        patch.setattr(SqlStore, "delete_file", failing)
        assert http.delete(f"{FILES}/{file_id}").status_code == 500
    assert http.get(f"{FILES}/{file_id}/content").status_code == 200
    assert http.delete(f"{FILES}/{file_id}").status_code == 200
    assert world.artifacts.list("files") == []
    assert http.get(f"{FILES}/{file_id}").status_code == 404


def test_bytes_that_a_deletion_left_behind_belong_to_no_file_and_serve_the_next_one(
    http: TestClient,
    world: Any,
    upload: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file_id = upload()["id"]
    with monkeypatch.context() as patch:
        patch.setattr(world.artifacts, "delete", failing)
        assert http.delete(f"{FILES}/{file_id}").status_code == 500
    assert http.get(f"{FILES}/{file_id}").status_code == 404
    assert len(world.artifacts.list("files")) == 1, "the sweep finds them"
    again = upload()["id"]
    assert http.get(f"{FILES}/{again}/content").content == b"{}\n"
    assert http.delete(f"{FILES}/{again}").status_code == 200
    assert world.artifacts.list("files") == []


def test_a_file_whose_bytes_are_gone_says_so(
    http: TestClient, world: Any, upload: Callable[..., dict[str, Any]]
) -> None:
    file_id = upload()["id"]
    world.artifacts.delete("files")
    answer = http.get(f"{FILES}/{file_id}/content")
    assert answer.status_code == 404
    assert "Delete the file, and upload it again" in answer.json()["error"]["message"]


@pytest.mark.parametrize(("broken", "name"), [("artifacts", "delete"), ("store", "delete_model")])
def test_the_deletion_of_a_model_is_taken_up_again(
    http: TestClient,
    world: Any,
    tuned: Any,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
    name: str,
) -> None:
    path = f"/v1/models/{tuned.fine_tuned_model}"
    with monkeypatch.context() as patch:
        patch.setattr(getattr(world, broken), name, failing)
        assert http.delete(path).status_code == 500
    assert http.get(path).status_code == 200
    assert world.store.list_checkpoints(tuned.id, after=None, limit=9).items
    assert http.delete(path).status_code == 200
    left = [f"runs/{tuned.id}/{name}" for name in ("metrics.csv", "spec.json")]
    assert bytes_of(world, tuned.id) == left
    assert world.store.list_checkpoints(tuned.id, after=None, limit=9).items == ()
    assert http.get(path).status_code == 404
