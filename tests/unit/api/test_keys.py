"""API keys at the door: who is admitted, to what, and what the others are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import openai
import pytest
from starlette.testclient import TestClient

from tunesmith.api.app import create_app
from tunesmith.domain.keys import Scope, new_key
from tunesmith.domain.projects import Limits

if TYPE_CHECKING:
    from unit.api.conftest import World

MakeKey = Callable[..., str]


@pytest.fixture
def make_key(world: World) -> MakeKey:
    def make(project: str = "default", scope: Scope = Scope.ADMIN, life: int | None = None) -> str:
        now = int(world.clock.now())
        expires_at = None if life is None else now + life
        secret, key = new_key(project, "test", scope=scope, now=now, expires_at=expires_at)
        world.store.add_key(key)
        # So long the API may remember that there was no such key.
        world.clock.advance(1)
        return secret

    return make


@pytest.fixture
def connect(http: TestClient) -> Callable[[str], openai.OpenAI]:
    def connected(secret: str) -> openai.OpenAI:
        return openai.OpenAI(
            api_key=secret, base_url="http://testserver/v1", http_client=http, max_retries=0
        )

    return connected


@pytest.fixture
def public(world: World) -> Iterator[TestClient]:
    """An API whose address is not loopback."""
    services = replace(world.services, open_without_keys=False)
    with TestClient(create_app(services), raise_server_exceptions=False) as client:
        yield client


def test_while_there_is_no_key_loopback_is_open_and_any_key_is_taken(
    client: openai.OpenAI,
) -> None:
    assert client.files.list().data == []


def test_while_there_is_no_key_another_address_admits_nobody(public: TestClient) -> None:
    assert public.get("/v1/files").status_code == 401


def test_once_there_is_a_key_it_is_asked_for_on_loopback_too(
    make_key: MakeKey, connect: Callable[[str], openai.OpenAI]
) -> None:
    secret = make_key()
    assert connect(secret).files.list().data == []
    with pytest.raises(openai.AuthenticationError, match="none of this service's") as refused:
        connect("unused").files.list()
    assert refused.value.code == "invalid_api_key"
    assert refused.value.type == "invalid_request_error"
    assert refused.value.response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", "sk-ts-abc"])
def test_a_request_without_a_key_is_told_how_to_send_one(
    http: TestClient, make_key: MakeKey, header: str | None
) -> None:
    make_key()
    answer = http.get("/v1/files", headers={} if header is None else {"Authorization": header})
    assert answer.status_code == 401
    assert "'Authorization: Bearer sk-ts-…'" in answer.json()["error"]["message"]


def test_a_key_that_differs_in_its_last_character_is_refused_without_an_echo(
    http: TestClient, make_key: MakeKey
) -> None:
    secret = make_key()
    wrong = secret[:-1] + ("a" if secret[-1] != "a" else "b")
    answer = http.get("/v1/files", headers={"Authorization": f"Bearer {wrong}"})
    assert answer.status_code == 401
    assert wrong[12:] not in answer.text


def test_an_expired_key_is_refused_from_that_second_on(
    http: TestClient, make_key: MakeKey, world: World
) -> None:
    headers = {"Authorization": f"Bearer {make_key(life=60)}"}
    assert http.get("/v1/files", headers=headers).status_code == 200
    world.clock.advance(59)
    answer = http.get("/v1/files", headers=headers)
    assert answer.status_code == 401
    assert "has expired" in answer.json()["error"]["message"]


def test_a_revoked_key_is_refused_within_a_second_and_the_door_stays_shut(
    http: TestClient, make_key: MakeKey, world: World
) -> None:
    headers = {"Authorization": f"Bearer {make_key()}"}
    assert http.get("/v1/files", headers=headers).status_code == 200
    [key] = world.store.list_keys()
    world.store.revoke_key(key.id)
    world.clock.advance(1)
    answer = http.get("/v1/files", headers=headers)
    assert answer.status_code == 401
    assert "was revoked" in answer.json()["error"]["message"]
    assert http.get("/v1/files").status_code == 401


def test_opeas_own_routes_refuse_in_opeas_shape(http: TestClient, make_key: MakeKey) -> None:
    make_key()
    body = {"fine_tuning_job_id": "ft-job-1"}
    answer = http.post("/v1/fine_tuning/jobs/retrieve", json=body)
    assert answer.status_code == 401
    assert list(answer.json()) == ["detail"]
    assert "API key" in answer.json()["detail"]


def test_reading_needs_the_scope_read_and_the_rest_write(
    make_key: MakeKey, connect: Callable[[str], openai.OpenAI]
) -> None:
    reader = connect(make_key(scope=Scope.READ))
    writer = connect(make_key(scope=Scope.WRITE))
    file = writer.files.create(file=("train.jsonl", b"{}\n"), purpose="fine-tune")
    assert reader.files.retrieve(file.id).id == file.id
    with pytest.raises(openai.PermissionDeniedError, match=r"'write'.* has 'read'") as refused:
        reader.files.delete(file.id)
    assert refused.value.code == "insufficient_scope"
    assert writer.files.delete(file.id).deleted


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/files/file-none/validate", {}),
        ("/v1/fine_tuning/jobs/retrieve", {"fine_tuning_job_id": "ft-job-none"}),
        ("/v1/finetune/list_checkpoints", {"fine_tuning_job_id": "ft-job-none"}),
    ],
)
def test_a_post_that_only_asks_needs_no_more_than_the_scope_read(
    http: TestClient, make_key: MakeKey, path: str, body: dict[str, str]
) -> None:
    key = {"Authorization": f"Bearer {make_key(scope=Scope.READ)}"}
    assert http.post(path, json=body, headers=key).status_code == 404


def test_requests_over_the_limit_are_told_when_to_come_again(
    world: World, http: TestClient
) -> None:
    world.store.set_limits("default", {"requests_per_minute": 2})
    assert [http.get("/v1/files").status_code for _ in range(3)] == [200, 200, 429]
    answer = http.get("/v1/files")
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert "x-should-retry" not in answer.headers
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    assert "2 requests within 60 seconds" in answer.json()["error"]["message"]
    assert http.get("/health").status_code == 200


def test_one_projects_requests_do_not_count_for_another(
    world: World, http: TestClient, make_key: MakeKey
) -> None:
    blue, red = ({"Authorization": f"Bearer {make_key(project)}"} for project in ("blue", "red"))
    world.store.set_limits("blue", {"requests_per_minute": 1})
    found = [http.get("/v1/files", headers=key).status_code for key in (blue, blue, red, red)]
    assert found == [200, 429, 200, 200]


def test_a_job_over_the_limit_is_refused_and_the_official_client_does_not_try_again(
    world: World,
) -> None:
    services = replace(world.services, limits=Limits(max_jobs=1))
    with TestClient(create_app(services)) as http:
        client = openai.OpenAI(
            api_key="unused", base_url="http://testserver/v1", http_client=http, max_retries=5
        )
        file = client.files.create(file=("train.jsonl", b"{}\n"), purpose="fine-tune")
        wanted = {"model": "smollm2-135m-instruct", "training_file": file.id}
        client.fine_tuning.jobs.create(**wanted)  # type: ignore[arg-type]
        with pytest.raises(openai.RateLimitError, match=r"has 1 jobs.*at most 1") as refused:
            client.fine_tuning.jobs.create(**wanted)  # type: ignore[arg-type]
    assert refused.value.code == refused.value.type == "insufficient_quota"
    assert refused.value.response.headers["Retry-After"] == "60"
    assert refused.value.response.headers["x-should-retry"] == "false"


def test_a_file_over_the_limit_of_bytes_is_refused_and_leaves_none(
    world: World, http: TestClient
) -> None:
    world.store.set_limits("default", {"max_bytes": 10})
    for name, status in (("a", 200), ("b", 429)):
        form = {"files": {"file": (name, b"123456")}, "data": {"purpose": "fine-tune"}}
        answer = http.post("/v1/files", **form)  # type: ignore[arg-type]
        assert answer.status_code == status
    assert answer.json()["error"]["code"] == "insufficient_quota"
    assert "have 6 bytes; with 6 more" in answer.json()["error"]["message"]
    assert answer.headers["Retry-After"] == "3600"
    assert answer.headers["x-should-retry"] == "false"
    assert len(world.artifacts.list("files")) == 1


def test_a_large_file_over_the_limit_of_bytes_is_refused_before_it_is_sent(
    world: World, http: TestClient
) -> None:
    world.store.set_limits("default", {"max_bytes": 10})
    headers = {"Content-Length": "1000000", "Content-Type": "multipart/form-data; boundary=B"}
    answer = http.post("/v1/files", content=b"--B", headers=headers)
    assert answer.status_code == 429
    assert "exceed the 10 that are allowed" in answer.json()["error"]["message"]


def test_a_limit_of_no_requests_admits_none(world: World, http: TestClient) -> None:
    world.store.set_limits("default", {"requests_per_minute": 0})
    answer = http.get("/v1/files")
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1
