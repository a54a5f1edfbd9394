"""Bad uploads, ids, pages and paths; faults of the service itself."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from tunesmith.domain.errors import ClusterUnavailableError, StaleJobError
from tunesmith.domain.files import File

FILES = "/v1/files"
FORM = "multipart/form-data; boundary=B"


def part(disposition: str, content: bytes) -> bytes:
    return (
        b"--B\r\nContent-Disposition: form-data; "
        + disposition.encode()
        + (b"\r\n\r\n" + content + b"\r\n")
    )


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--B--\r\n"


FILE = part('name="file"; filename="a.jsonl"', b"{}")
PURPOSE = part('name="purpose"', b"fine-tune")


def send(http: TestClient, body: bytes, content_type: str = FORM) -> Any:
    return http.post(FILES, content=body, headers={"content-type": content_type})


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("../../etc/passwd", "path parts"),
        ("a/b.jsonl", "path parts"),
        ("/etc/passwd", "path parts"),
        ("..", "path parts"),
        ("\\\\host\\x.jsonl", "path parts"),
        ("C:\\folder\\x.jsonl", "path parts"),
        ("a\\b.jsonl", "path parts"),
        ("a\tb", "control"),
        ("", "empty"),
        (" ", "empty"),
        ("x" * 256, "longer than 255"),
    ],
)
def test_a_file_name_that_is_not_plain_is_refused(
    http: TestClient, world: Any, name: str, fault: str
) -> None:
    answer = send(http, form(part(f'name="file"; filename="{name}"', b"{}"), PURPOSE))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "file"
    assert fault in answer.json()["error"]["message"]
    assert world.artifacts.list("files") == []


def test_a_file_name_that_is_not_utf_8_is_refused(http: TestClient, world: Any) -> None:
    latin = FILE.replace(b"a.jsonl", "caf\u00e9.jsonl".encode("latin-1"))
    answer = send(http, form(latin, PURPOSE))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "file"
    assert "not UTF-8: it has the byte 0xe9" in answer.json()["error"]["message"]
    assert world.artifacts.list("files") == []


def test_a_file_name_beyond_ascii_is_kept(upload: Callable[..., dict[str, Any]]) -> None:
    assert upload("caf\u00e9 \u5b66.jsonl")["filename"] == "caf\u00e9 \u5b66.jsonl"


def test_a_percent_encoded_name_stays_as_it_is(
    http: TestClient, upload: Callable[..., dict[str, Any]]
) -> None:
    file = upload("..%2Fa.jsonl")
    assert file["filename"] == "..%2Fa.jsonl"
    headers = http.get(f"{FILES}/{file['id']}/content").headers
    assert headers["content-disposition"] == "attachment; filename*=UTF-8''..%252Fa.jsonl"
    assert headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("body", "param", "fault"),
    [
        (form(PURPOSE), "file", "missing"),
        (form(FILE), "purpose", "missing"),
        (form(FILE, FILE, PURPOSE), "file", "more than once"),
        (form(FILE, PURPOSE, PURPOSE), "purpose", "more than once"),
        (form(part('name="file"', b"{}"), PURPOSE), "file", "plain value"),
        (form(FILE, part('name="purpose"', b"fun")), "purpose", "'fine-tune'"),
        (form(FILE, part('name="purpose"; filename="a"', b"x")), "purpose", "found a file"),
        (form(FILE, part('name="purpose"', b"fine-tune-results")), "purpose", "must be one of"),
        (form(FILE, PURPOSE, part('name="colour"', b"red")), "colour", "no known part"),
        (form(part('name="file"; filename="a"', b""), PURPOSE), "file", "empty"),
        (b"no form at all", None, "form"),
        (FILE, "file", "missing"),
        (form(), "file", "missing"),
    ],
)
def test_a_bad_form_is_refused_at_the_part(
    http: TestClient, body: bytes, param: str | None, fault: str
) -> None:
    answer = send(http, body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert fault in answer.json()["error"]["message"]


def test_an_upload_of_another_content_type_is_refused(http: TestClient) -> None:
    assert send(http, b"{}", "application/json").status_code == 415
    assert send(http, b"{}", "multipart/form-data").status_code == 400


@pytest.mark.parametrize("size", [10_001, 100_000])
def test_an_upload_beyond_the_limit_is_refused_and_leaves_nothing(
    http: TestClient, world: Any, size: int
) -> None:
    answer = send(http, form(part('name="file"; filename="a"', b"x" * size), PURPOSE))
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"
    assert "10000" in answer.json()["error"]["message"]
    assert world.artifacts.list("files") == []


def test_an_upload_at_the_limit_is_taken_and_hashed(http: TestClient, world: Any) -> None:
    answer = send(http, form(part('name="file"; filename="a"', b"x" * 10_000), PURPOSE))
    file = world.store.file(answer.json()["id"])
    assert file.bytes == 10_000
    assert file.sha256 == hashlib.sha256(b"x" * 10_000).hexdigest()


def test_an_upload_that_is_not_recorded_leaves_no_bytes(
    http: TestClient, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: File) -> None:
        raise StaleJobError("no room")

    monkeypatch.setattr(world.store, "add_file", fail)
    assert send(http, form(FILE, PURPOSE)).status_code == 500
    assert world.artifacts.list("files") == []


def test_a_file_that_an_unfinished_job_needs_is_kept(
    http: TestClient, upload: Callable[..., dict[str, Any]]
) -> None:
    file_id = upload()["id"]
    body = {"model": "org/tiny-llama", "training_file": file_id}
    job = http.post("/v1/fine_tuning/jobs", json=body).json()
    answer = http.delete(f"{FILES}/{file_id}")
    assert answer.status_code == 409
    assert job["id"] in answer.json()["error"]["message"]
    assert http.get(f"{FILES}/{file_id}/content").content == b"{}\n"


@pytest.mark.parametrize(
    "path",
    [
        *("files/file-x", "files/file-x/content", "fine_tuning/jobs/ftjob-x", "models/a/b:c"),
        *("fine_tuning/jobs/ftjob-x/events", "fine_tuning/jobs/ftjob-x/checkpoints", "nowhere"),
        *("files/..%2f..%2fetc%2fpasswd", "files/%00", "files/%ff", "fine_tuning/jobs/%00"),
    ],
)
def test_an_unknown_id_or_path_is_not_found(http: TestClient, path: str) -> None:
    answer = http.get(f"/v1/{path}")
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/models", "GET"),
        ("PUT", "/v1/files", "GET, POST"),
        ("PATCH", "/v1/files/file-x", "GET, DELETE"),
        ("POST", "/v1/models/a/b", "GET, DELETE"),
        ("DELETE", "/v1/fine_tuning/jobs", "GET, POST"),
        ("DELETE", "/v1/fine_tuning/jobs/ftjob-x", "GET"),
        ("GET", "/v1/fine_tuning/jobs/retrieve", "POST"),
        ("GET", "/v1/fine_tuning/jobs/cancel", "POST"),
        ("GET", "/v1/finetune/list_checkpoints", "POST"),
    ],
)
def test_a_method_that_a_path_does_not_take_is_refused_with_those_it_takes(
    http: TestClient, method: str, path: str, allowed: str
) -> None:
    answer = http.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    assert f"it takes {allowed}." in answer.text


def test_the_names_of_opeas_routes_are_job_ids_nowhere_else(http: TestClient) -> None:
    for name in ("retrieve", "cancel"):
        assert http.get(f"/v1/fine_tuning/jobs/{name}/events").status_code == 404
        assert http.get(f"/v1/fine_tuning/jobs/{name}d").status_code == 404


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("files?limit=0", "limit"),
        ("files?limit=10001", "limit"),
        ("files?limit=x", "limit"),
        ("files?limit=" + "9" * 5000, "limit"),
        ("files?order=up", "order"),
        ("files?purpose=fun", "purpose"),
        ("files?after=file-x", "after"),
        ("fine_tuning/jobs?limit=0", "limit"),
        ("fine_tuning/jobs?limit=1001", "limit"),
        ("fine_tuning/jobs?after=x%00", "after"),
    ],
)
def test_a_bad_page_is_refused_at_its_parameter(http: TestClient, path: str, param: str) -> None:
    answer = http.get(f"/v1/{path}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert param in answer.json()["error"]["message"]


@pytest.mark.parametrize("fault", [ClusterUnavailableError("secret"), RuntimeError("secret")])
def test_a_fault_of_the_service_is_logged_and_not_told(
    http: TestClient,
    world: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: Exception,
) -> None:
    def fail(**_: object) -> None:
        raise fault

    monkeypatch.setattr(world.store, "list_jobs", fail)
    with caplog.at_level(logging.ERROR):
        answer = http.get("/v1/fine_tuning/jobs")
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "secret" not in answer.text
    request_id = answer.headers["x-request-id"]
    assert request_id in answer.json()["error"]["message"]
    assert request_id in caplog.text
    assert "secret" in caplog.text


def test_the_description_resolves_all_of_its_references(http: TestClient) -> None:
    description = http.get("/openapi.json").json()
    known = description["components"]["schemas"]
    text = http.get("/openapi.json").text
    named = {ref.partition('"')[0] for ref in text.split("#/components/schemas/")[1:]}
    assert named <= known.keys()
    assert {"CreateJob", "OpeaCreateJob", "ErrorBody"} <= named
    assert description["paths"]["/v1/fine_tuning/jobs"]["post"]["requestBody"]["required"]
