"""What clients are told while the object store or the database's server is away."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from starlette.testclient import TestClient

from tunesmith.api.app import create_app
from tunesmith.domain.errors import ArtifactsUnavailableError
from tunesmith.domain.projects import Limits
from tunesmith.store.database import open_database
from tunesmith.store.kept import KeptJobs
from tunesmith.store.sql import SqlStore
from unit.api.conftest import World

ROWS = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
WHY = "s3://in-house/prefix forbids this to these keys"
NOWHERE = "postgresql://ann:s3cret@/tunes?host=/nowhere"


def away(*_: object, **__: object) -> NoReturn:
    raise ArtifactsUnavailableError(WHY)


@pytest.fixture
def without_bucket(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what takes the object store away."""

    def take_away() -> None:
        for name in ("put", "get", "open", "writer", "exists"):
            monkeypatch.setattr(world.artifacts, name, away)

    return take_away


@pytest.mark.parametrize("ask", ["upload", "content"])
def test_without_its_bucket_the_service_says_when_to_ask_again(
    http: TestClient,
    upload: Callable[..., dict[str, Any]],
    without_bucket: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
    ask: str,
) -> None:
    file = upload(content=ROWS)
    without_bucket()
    with caplog.at_level(logging.ERROR):
        if ask == "upload":
            sent = {"file": ("a.jsonl", ROWS)}
            answer = http.post("/v1/files", files=sent, data={"purpose": "fine-tune"})
        else:
            answer = http.get(f"/v1/files/{file['id']}/content")
    assert answer.status_code == 503
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == ("artifacts_unavailable", "server_error")
    assert int(answer.headers["retry-after"]) > 0
    # What is wrong is the operator's to know.
    assert WHY not in answer.text
    assert WHY in caplog.text
    assert http.get(f"/v1/files/{file['id']}").status_code == 200


@pytest.mark.parametrize("path", ["files", "fine_tuning/jobs", "files/file-1", "models"])
def test_without_its_database_the_service_says_when_to_ask_again(world: World, path: str) -> None:
    store = SqlStore(
        open_database(NOWHERE), world.clock, project=None, limits=Limits(), kept=KeptJobs()
    )
    services = dataclasses.replace(world.services, store=store)
    with TestClient(create_app(services), raise_server_exceptions=False) as http:
        answer = http.get(f"/v1/{path}")
        ready = http.get("/ready")
        up = http.get("/health")
    assert answer.status_code == 503
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == ("database_unavailable", "server_error")
    assert int(answer.headers["retry-after"]) > 0
    assert ready.status_code == 503
    assert "The database does not answer; see the log." in ready.json()["missing"]
    assert up.status_code == 200
    assert "s3cret" not in answer.text + ready.text
