"""Same content lies once, whoever uploads and deletes at once; and files that expire."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from starlette.testclient import TestClient

from tunesmith.api.app import create_app
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.store.sql import SqlStore

FILES = "/v1/files"
HASH = hashlib.sha256(b"{}\n").hexdigest()
KEY = f"files/sha256/{HASH[:2]}/{HASH}"


@pytest.fixture
def disk(world: Any, tmp_path: Path) -> Iterator[TestClient]:
    """The API over a real disk and database."""
    store = SqlStore.open(f"sqlite:///{tmp_path}/tunesmith.db", world.clock)
    services = replace(world.services, store=store, artifacts=LocalArtifacts(tmp_path / "data"))
    with TestClient(create_app(services)) as client:
        yield client
    store.close()


def expiry(seconds: object = 3600, *, anchor: str = "created_at") -> dict[str, str]:
    return {"expires_after[anchor]": anchor, "expires_after[seconds]": str(seconds)}


def send(http: TestClient, **parts: str) -> Any:
    data = {"purpose": "fine-tune", **parts}
    return http.post(FILES, files={"file": ("train.jsonl", b"{}\n")}, data=data)


def test_the_same_content_is_stored_once_and_goes_with_its_last_file(
    http: TestClient, world: Any, upload: Callable[..., dict[str, Any]]
) -> None:
    first, second = upload("a.jsonl")["id"], upload("b.jsonl")["id"]
    other = upload("c.jsonl", b"[]\n")["id"]
    assert first != second
    assert len(world.artifacts.list("files")) == 2
    assert world.store.file(first).key == world.store.file(second).key == KEY
    http.delete(f"{FILES}/{first}")
    assert http.get(f"{FILES}/{second}/content").content == b"{}\n"
    http.delete(f"{FILES}/{second}")
    http.delete(f"{FILES}/{other}")
    assert world.artifacts.list("files") == []


def test_an_upload_puts_right_what_has_become_of_the_same_content(
    http: TestClient, world: Any, upload: Callable[..., dict[str, Any]]
) -> None:
    file_id = upload()["id"]
    world.artifacts.put(KEY, b"broken")
    upload()
    assert http.get(f"{FILES}/{file_id}/content").content == b"{}\n"


def test_files_from_before_keep_their_own_keys(
    http: TestClient, world: Any, upload: Callable[..., dict[str, Any]]
) -> None:
    file = world.store.file(upload()["id"])
    old = file.model_copy(update={"id": "file-old", "key": "files/file-old"})
    world.artifacts.put(old.key, b"old")
    world.store.within("default").add_file(old)
    assert http.get(f"{FILES}/file-old/content").status_code == 200
    assert http.delete(f"{FILES}/file-old").json()["deleted"] is True
    assert world.artifacts.list("files") == [KEY]


def test_uploads_and_deletions_of_one_content_at_once_never_lose_it(
    disk: TestClient, tmp_path: Path
) -> None:
    def come_and_go(seed: int) -> None:
        choice = random.Random(seed)
        for _ in range(12):
            file_id = send(disk).json()["id"]
            if choice.random() < 0.5:
                assert disk.get(f"{FILES}/{file_id}/content").content == b"{}\n"
            assert disk.delete(f"{FILES}/{file_id}").status_code == 200

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(come_and_go, range(4)))
    assert not (tmp_path / "data" / KEY).exists()
    file_id = send(disk).json()["id"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(come_and_go, range(4)))
    assert disk.get(f"{FILES}/{file_id}/content").content == b"{}\n"


def test_a_file_expires_from_every_answer(
    client: openai.OpenAI, http: TestClient, world: Any
) -> None:
    kept = client.files.create(file=("a.jsonl", b"[]"), purpose="fine-tune")
    assert "expires_at" not in http.get(f"{FILES}/{kept.id}").json()
    file = client.files.create(
        file=("train.jsonl", b"{}"),
        purpose="fine-tune",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert file.expires_at == file.created_at + 3600
    assert client.files.retrieve(file.id).expires_at == file.expires_at
    world.clock.advance(3600)
    assert [each.id for each in client.files.list()] == [kept.id]
    for path in (f"{FILES}/{file.id}", f"{FILES}/{file.id}/content"):
        assert http.get(path).status_code == 404
    assert http.delete(f"{FILES}/{file.id}").status_code == 404
    answer = http.post(
        "/v1/fine_tuning/jobs", json={"model": "org/tiny-llama", "training_file": file.id}
    )
    assert answer.status_code == 404
    assert answer.json()["error"]["param"] == "training_file"
    assert "may have expired" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("parts", "param", "words"),
    [
        (expiry(3599), "expires_after[seconds]", "at least 3600; found the number 3599"),
        (expiry(2_592_001), "expires_after[seconds]", "at most 2592000"),
        (expiry("soon"), "expires_after[seconds]", "an integer; found the string"),
        (expiry("1e9"), "expires_after[seconds]", "an integer"),
        (expiry(anchor="now"), "expires_after[anchor]", "must be 'created_at'"),
        ({"expires_after[seconds]": "3600"}, "expires_after[anchor]", "is missing"),
        ({"expires_after[anchor]": "created_at"}, "expires_after[seconds]", "is missing"),
        ({"expires_after[days]": "3"}, "expires_after[days]", "no known part"),
    ],
)
def test_a_bad_expiry_is_refused_at_its_part(
    http: TestClient, world: Any, parts: dict[str, str], param: str, words: str
) -> None:
    answer = send(http, **parts)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert words in answer.json()["error"]["message"]
    assert world.artifacts.list("files") == []


@pytest.mark.parametrize("seconds", [3600, 2_592_000])
def test_the_bounds_of_an_expiry_are_taken(http: TestClient, seconds: int) -> None:
    file = send(http, **expiry(seconds)).json()
    assert file["expires_at"] == file["created_at"] + seconds


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_list_of_files_is_paged_with_the_ids_of_its_ends(
    http: TestClient, upload: Callable[..., dict[str, Any]], order: str
) -> None:
    ids = [upload(f"{number}.jsonl")["id"] for number in range(5)]
    if order == "desc":
        ids.reverse()
    found, after, more = [], None, True
    while more:
        behind: dict[str, str] = {"after": after} if after else {}
        page = http.get(FILES, params={"limit": "2", "order": order, **behind}).json()
        found += [file["id"] for file in page["data"]]
        assert page["first_id"] == page["data"][0]["id"]
        after = page["last_id"]
        assert after == page["data"][-1]["id"]
        more = page["has_more"]
    assert found == ids
    empty = http.get(FILES, params={"after": ids[-1], "order": order}).json()
    assert empty == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


@pytest.mark.parametrize("purpose", ["assistants_output", "batch_output"])
def test_no_file_has_a_purpose_of_what_other_services_write(http: TestClient, purpose: str) -> None:
    assert http.get("/v1/files", params={"purpose": purpose}).json()["data"] == []
    answer = http.post("/v1/files", files={"file": ("a.jsonl", b"x")}, data={"purpose": purpose})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "purpose"
