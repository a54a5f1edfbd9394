"""Big files in parts: the official client, any order, in parallel, across a restart."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from starlette.testclient import TestClient

from tunesmith.api.app import create_app
from tunesmith.api.content import Content
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.artifacts.memory import MemoryArtifacts
from tunesmith.domain.uploads import MAX_PART_BYTES, MAX_UPLOAD_BYTES, UPLOAD_LIFE
from tunesmith.store.sql import SqlStore

UPLOADS = "/v1/uploads"
REQUEST = {
    "filename": "big.jsonl",
    "purpose": "fine-tune",
    "bytes": 6,
    "mime_type": "application/jsonl",
}


def create(http: TestClient, **changed: object) -> str:
    answer = http.post(UPLOADS, json={**REQUEST, **changed})
    assert answer.status_code == 200, answer.text
    upload_id: str = answer.json()["id"]
    return upload_id


def add(http: TestClient, upload_id: str, data: bytes) -> str:
    answer = http.post(f"{UPLOADS}/{upload_id}/parts", files={"data": ("blob", data)})
    assert answer.status_code == 200, answer.text
    part_id: str = answer.json()["id"]
    return part_id


def complete(http: TestClient, upload_id: str, *part_ids: str, **more: object) -> Any:
    body = {"part_ids": part_ids, **more}
    return http.post(f"{UPLOADS}/{upload_id}/complete", json=body)


def fault(answer: Any, *, status: int = 400) -> tuple[str | None, str]:
    """Return the place and the message of a refusal."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error["param"], error["message"]


def test_the_official_client_brings_a_file_in_parts(client: openai.OpenAI, world: Any) -> None:
    upload = client.uploads.create(
        bytes=6, filename="big.jsonl", mime_type="application/jsonl", purpose="fine-tune"
    )
    assert (upload.object, upload.status, upload.file) == ("upload", "pending", None)
    assert upload.expires_at == upload.created_at + 3600
    last = client.uploads.parts.create(upload.id, data=b"def")
    first = client.uploads.parts.create(upload.id, data=b"abc")
    assert (first.object, first.upload_id) == ("upload.part", upload.id)

    md5 = hashlib.md5(b"abcdef", usedforsecurity=False).hexdigest()
    done = client.uploads.complete(upload.id, part_ids=[first.id, last.id], md5=md5)

    assert (done.status, done.id, done.bytes) == ("completed", upload.id, 6)
    assert done.file is not None
    assert (done.file.filename, done.file.purpose, done.file.bytes) == ("big.jsonl", "fine-tune", 6)
    assert client.files.retrieve(done.file.id) == done.file
    assert client.files.content(done.file.id).content == b"abcdef"
    assert world.store.file(done.file.id).sha256 == hashlib.sha256(b"abcdef").hexdigest()
    assert world.artifacts.list("uploads") == []


def test_the_official_client_cuts_a_file_into_parts(client: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"0123456789" * 100)
    done = client.uploads.upload_file_chunked(
        file=path, mime_type="application/jsonl", purpose="fine-tune", part_size=300
    )
    assert done.file is not None
    assert client.files.content(done.file.id).content == path.read_bytes()


def test_a_cancelled_upload_keeps_no_part(client: openai.OpenAI, world: Any) -> None:
    upload = client.uploads.create(
        bytes=6, filename="a", mime_type="text/plain", purpose="assistants"
    )
    client.uploads.parts.create(upload.id, data=b"abc")
    done = client.uploads.cancel(upload.id)
    assert (done.status, done.file) == ("cancelled", None)
    assert world.artifacts.list("uploads") == []
    with pytest.raises(openai.BadRequestError, match="is cancelled"):
        client.uploads.parts.create(upload.id, data=b"abc")


def test_parts_may_come_in_parallel(http: TestClient) -> None:
    upload_id = create(http, bytes=160)
    pieces = [bytes([number]) * 10 for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        part_ids = list(pool.map(lambda piece: add(http, upload_id, piece), pieces))
    answer = complete(http, upload_id, *part_ids)
    content = http.get(f"/v1/files/{answer.json()['file']['id']}/content").content
    assert content == b"".join(pieces)


def test_an_upload_goes_on_behind_a_restart(world: Any, tmp_path: Path) -> None:
    def serve() -> tuple[TestClient, SqlStore]:
        store = SqlStore.open(f"sqlite:///{tmp_path}/tunesmith.db", world.clock)
        artifacts = LocalArtifacts(tmp_path / "data")
        services = replace(world.services, store=store, artifacts=artifacts)
        return TestClient(create_app(services)), store

    http, store = serve()
    upload_id = create(http)
    first = add(http, upload_id, b"abc")
    store.close()

    http, store = serve()
    answer = complete(http, upload_id, first, add(http, upload_id, b"def"))
    assert answer.json()["status"] == "completed"
    assert http.get(f"/v1/files/{answer.json()['file']['id']}/content").content == b"abcdef"
    assert LocalArtifacts(tmp_path / "data").list("uploads") == []
    store.close()


def test_the_parts_are_put_together_a_chunk_at_a_time(
    http: TestClient, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = create(http, bytes=6 * 1024**2)
    part_ids = [add(http, upload_id, b"x" * 3 * 1024**2) for _ in range(2)]
    sizes: list[int] = []
    plain = Content.write

    def write(content: Content, *pieces: bytes) -> None:
        sizes.extend(map(len, pieces))
        plain(content, *pieces)

    monkeypatch.setattr(Content, "write", write)
    assert complete(http, upload_id, *part_ids).status_code == 200
    assert sizes == [1024**2] * 6


@pytest.mark.parametrize(
    ("changed", "param", "words"),
    [
        ({"bytes": 0}, "bytes", "at least 1"),
        ({"bytes": MAX_UPLOAD_BYTES + 1}, "bytes", "at most 8589934592"),
        ({"purpose": "evals"}, "purpose", "'vision'"),
        ({"filename": "a/b"}, "filename", "path parts"),
        ({"mime_type": ""}, "mime_type", "1 or more characters"),
        ({"expires_after": {"seconds": 3600}}, "expires_after.anchor", "missing"),
        (
            {"expires_after": {"anchor": "created_at", "seconds": 3599}},
            "expires_after.seconds",
            "at",
        ),
        ({"colour": "red"}, "colour", "no known key"),
    ],
)
def test_a_bad_announcement_is_refused_at_the_key(
    http: TestClient, changed: dict[str, object], param: str, words: str
) -> None:
    found, message = fault(http.post(UPLOADS, json={**REQUEST, **changed}))
    assert found == param
    assert words in message


def test_the_largest_upload_is_taken_and_a_null_expiry_too(http: TestClient) -> None:
    create(http, bytes=MAX_UPLOAD_BYTES, expires_after=None)


def test_parts_that_are_not_the_uploads_are_refused_at_their_place(http: TestClient) -> None:
    upload_id = create(http)
    mine, other = add(http, upload_id, b"abcdef"), add(http, create(http), b"abcdef")
    for part_ids, param in [((mine, other), "part_ids.1"), (("part_x", mine), "part_ids.0")]:
        found, message = fault(complete(http, upload_id, *part_ids))
        assert found == param
        assert f"is no part of upload '{upload_id}'" in message


def test_a_part_that_is_given_twice_is_refused(http: TestClient) -> None:
    upload_id = create(http)
    part_id = add(http, upload_id, b"abc")
    found, message = fault(complete(http, upload_id, part_id, part_id))
    assert found == "part_ids.1"
    assert "at 'part_ids.0' already" in message


def test_a_wrong_completion_can_be_mended(http: TestClient, world: Any) -> None:
    upload_id = create(http)
    part_id = add(http, upload_id, b"abc")
    found, message = fault(complete(http, upload_id, part_id))
    assert found == "part_ids"
    assert "3 bytes together, but the upload was created for 6" in message

    rest = add(http, upload_id, b"def")
    found, message = fault(complete(http, upload_id, part_id, rest, md5="0" * 32))
    assert found == "md5"
    assert "MD5 e80b5017098950fc58aad83c8c14978e" in message
    assert fault(complete(http, upload_id, part_id, rest, md5="short"))[0] == "md5"
    assert fault(complete(http, upload_id))[0] == "part_ids"
    assert world.artifacts.list("files") == []

    md5 = "E80B5017098950FC58AAD83C8C14978E"
    assert complete(http, upload_id, part_id, rest, md5=md5).status_code == 200


@pytest.mark.parametrize("end", ["completed", "cancelled", "expired"])
def test_an_upload_that_has_ended_is_refused_with_how(
    http: TestClient, world: Any, end: str
) -> None:
    upload_id = create(http)
    part_id = add(http, upload_id, b"abcdef")
    if end == "completed":
        complete(http, upload_id, part_id)
    elif end == "cancelled":
        http.post(f"{UPLOADS}/{upload_id}/cancel")
    else:
        world.clock.advance(UPLOAD_LIFE)
    data = {"data": ("blob", b"x")}
    for answer in (
        complete(http, upload_id, part_id),
        http.post(f"{UPLOADS}/{upload_id}/cancel"),
        http.post(f"{UPLOADS}/{upload_id}/parts", files=data),
    ):
        found, message = fault(answer)
        assert found == "upload_id"
        assert f"'{upload_id}' is {end}" in message
        assert answer.json()["error"]["code"] == "upload_not_pending"
    assert len(world.artifacts.list("files")) == (end == "completed")


def test_an_unknown_upload_is_not_found(http: TestClient) -> None:
    data = {"data": ("blob", b"x")}
    for answer in (
        complete(http, "upload_x", "part_x"),
        http.post(f"{UPLOADS}/upload_x/cancel"),
        http.post(f"{UPLOADS}/upload_x/parts", files=data),
    ):
        assert fault(answer, status=404)[0] == "upload_id"


@pytest.mark.parametrize(
    ("form", "param", "words"),
    [
        ({"files": {"file": ("a", b"x")}}, "data", "missing"),
        ({"files": {"data": ("a", b"")}}, "data", "empty"),
        ({"files": {"data": ("a", b"x"), "more": ("a", b"x")}}, "more", "no known part"),
        ({"files": {"data": (None, b"x")}}, "data", "plain value"),
    ],
)
def test_a_bad_part_is_refused(
    http: TestClient, world: Any, form: dict[str, Any], param: str, words: str
) -> None:
    found, message = fault(http.post(f"{UPLOADS}/{create(http)}/parts", **form))
    assert found == param
    assert words in message
    assert world.artifacts.list("uploads") == []


@pytest.mark.parametrize("over", [1, 1024**2])
def test_a_part_that_is_too_large_is_refused(
    http: TestClient, world: Any, monkeypatch: pytest.MonkeyPatch, over: int
) -> None:
    assert MAX_PART_BYTES == 64 * 1024**2
    monkeypatch.setattr("tunesmith.api.body.MAX_PART_BYTES", 1000)
    data = {"data": ("blob", b"x" * (1000 + over))}
    answer = http.post(f"{UPLOADS}/{create(http)}/parts", files=data)
    assert "1000" in fault(answer, status=413)[1]
    assert world.artifacts.list("uploads") == []


def test_a_cancellation_amid_the_completion_wins(
    http: TestClient, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = create(http)
    first, last = add(http, upload_id, b"abc"), add(http, upload_id, b"def")
    plain = MemoryArtifacts.open

    def open_late(artifacts: MemoryArtifacts, key: str) -> Any:
        if key.endswith(last):
            http.post(f"{UPLOADS}/{upload_id}/cancel")
        return plain(artifacts, key)

    monkeypatch.setattr(MemoryArtifacts, "open", open_late)
    assert "is cancelled" in fault(complete(http, upload_id, first, last))[1]
    assert world.artifacts.list("files") == []


def test_a_second_completion_at_the_same_time_leaves_one_file(
    http: TestClient, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = create(http)
    part_id = add(http, upload_id, b"abcdef")
    plain = MemoryArtifacts.open

    def overtaken(artifacts: MemoryArtifacts, key: str) -> Any:
        stream = plain(artifacts, key)
        monkeypatch.setattr(MemoryArtifacts, "open", plain)
        assert complete(http, upload_id, part_id).status_code == 200
        return stream

    monkeypatch.setattr(MemoryArtifacts, "open", overtaken)
    assert "is completed" in fault(complete(http, upload_id, part_id))[1]
    assert len(world.artifacts.list("files")) == 1


def test_a_part_beyond_what_was_announced_is_refused_and_leaves_nothing(
    http: TestClient, world: Any
) -> None:
    upload_id = create(http)
    first = add(http, upload_id, b"abcd")
    data = {"data": ("blob", b"efg")}
    found, message = fault(http.post(f"{UPLOADS}/{upload_id}/parts", files=data))
    assert found == "data"
    assert "6 bytes and has 4 of them; this part has 3" in message
    assert len(world.artifacts.list("uploads")) == 1
    assert complete(http, upload_id, first, add(http, upload_id, b"ef")).status_code == 200


def test_parts_of_an_unknown_upload_are_refused_before_they_are_read(http: TestClient) -> None:
    headers = {"content-type": "multipart/form-data; boundary=B"}
    path = f"{UPLOADS}/upload_x/parts"
    assert fault(http.post(path, content=b"no form", headers=headers), status=404)[0] == "upload_id"


def test_a_part_that_lands_as_its_upload_is_cancelled_is_told_so(
    http: TestClient, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = create(http)
    plain = Content.publish

    def publish(content: Content, key: str) -> None:
        http.post(f"{UPLOADS}/{upload_id}/cancel")
        plain(content, key)

    monkeypatch.setattr(Content, "publish", publish)
    data = {"data": ("blob", b"abc")}
    answer = http.post(f"{UPLOADS}/{upload_id}/parts", files=data)
    assert "is cancelled" in fault(answer)[1]
    assert answer.json()["error"]["code"] == "upload_not_pending"
    assert world.artifacts.list("uploads") == []


def test_the_file_of_an_upload_expires_as_the_upload_asked(
    client: openai.OpenAI, world: Any
) -> None:
    upload = client.uploads.create(
        bytes=3,
        filename="a.jsonl",
        mime_type="application/jsonl",
        purpose="fine-tune",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    part = client.uploads.parts.create(upload.id, data=b"abc")
    world.clock.advance(100)
    done = client.uploads.complete(upload.id, part_ids=[part.id])
    assert done.file is not None
    assert done.file.expires_at == done.file.created_at + 3600
    world.clock.advance(3600)
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(done.file.id)
