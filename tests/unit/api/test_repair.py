"""`POST /v1/files/{id}/repair`: a repaired copy as a file of its own, and its diff."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from starlette.testclient import TestClient

from tunesmith.api import checks
from tunesmith.api.app import create_app
from tunesmith.domain.projects import Limits

if TYPE_CHECKING:
    from unit.api.conftest import World

Upload = Callable[..., dict[str, Any]]

ROWS = [json.dumps({"prompt": f"{n} + 1?", "completion": f"{n + 1}."}) for n in range(3)]
CONTENT = "\r\n".join([*ROWS, ROWS[0], "7", ""]).encode()
COPY = "\n".join([*ROWS, "7", ""]).encode()


def test_the_copy_is_a_training_file_beside_the_original(http: TestClient, upload: Upload) -> None:
    original = upload(content=CONTENT, name="chats.json")

    answer = http.post(f"/v1/files/{original['id']}/repair")

    assert answer.status_code == 200, answer.text
    body = answer.json()
    copy = body.pop("file")
    changes = body.pop("changes")
    assert body == {
        "object": "file.repair",
        "original": original["id"],
        "mended": {"crlf": 4, "duplicate": 1},
        "unmended": {"not_an_object": 1},
    }
    assert changes[3] == {
        "line": 4,
        "rule": "duplicate",
        "what": "The row was dropped: an earlier one is the same example.",
    }
    assert (copy["filename"], copy["purpose"]) == ("chats-repaired.jsonl", "fine-tune")
    assert http.get(f"/v1/files/{copy['id']}").json() == copy
    assert http.get(f"/v1/files/{copy['id']}/content").content == COPY
    assert http.get(f"/v1/files/{original['id']}/content").content == CONTENT


def test_a_file_with_nothing_to_mend_gets_no_copy(http: TestClient, upload: Upload) -> None:
    sound = upload(content=COPY)

    body = http.post(f"/v1/files/{sound['id']}/repair").json()
    diff = http.get(f"/v1/files/{sound['id']}/repair/diff")

    assert (body["file"], body["mended"], body["changes"]) == (None, {}, [])
    assert body["unmended"] == {"not_an_object": 1}
    assert (diff.status_code, diff.content) == (200, b"")
    assert [file["id"] for file in http.get("/v1/files").json()["data"]] == [sound["id"]]


def test_the_diff_names_both_files_and_each_changed_line(http: TestClient, upload: Upload) -> None:
    original = upload(content=CONTENT, name="chats.json")

    answer = http.get(f"/v1/files/{original['id']}/repair/diff")

    assert answer.headers["content-type"].startswith("text/x-diff")
    assert "chats-repaired.diff" in answer.headers["content-disposition"]
    lines = answer.content.split(b"\n")
    assert lines[:2] == [b"--- chats.json", b"+++ chats-repaired.jsonl"]
    assert lines[2:5] == [
        b"@@ -1,1 +1,1 @@",
        f"-{ROWS[0]}\r".encode(),
        f"+{ROWS[0]}".encode(),
    ]
    assert b"@@ -4,1 +3,0 @@" in lines


def test_a_table_is_refused_with_the_mend(http: TestClient, upload: Upload) -> None:
    table = upload(content=b"prompt,completion\na,b\n")

    for answer in (
        http.post(f"/v1/files/{table['id']}/repair"),
        http.get(f"/v1/files/{table['id']}/repair/diff"),
    ):
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (
            400,
            "file_not_repairable",
            "file_id",
        )
        assert "write it as JSON Lines" in error["message"]


def test_the_copy_counts_among_the_bytes_of_its_project(world: World, upload: Upload) -> None:
    original = upload(content=CONTENT)
    full = replace(world.services, limits=Limits(max_bytes=len(CONTENT) + len(COPY) - 1))

    with TestClient(create_app(full)) as http:
        answer = http.post(f"/v1/files/{original['id']}/repair")

    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "insufficient_quota"
    assert len(world.artifacts.list("files")) == 1


def test_beyond_those_that_may_wait_a_repair_is_refused(
    http: TestClient, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "MOST_WAITING", 0)
    file = upload(content=CONTENT)

    assert http.post(f"/v1/files/{file['id']}/repair").status_code == 429


def test_a_disk_without_room_for_the_copy_is_507(
    http: TestClient, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_COMMAND", ("sh", "-c", "read task; exit 4"))
    file = upload(content=CONTENT)

    answer = http.post(f"/v1/files/{file['id']}/repair")

    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")
    assert len(http.get("/v1/files").json()["data"]) == 1
