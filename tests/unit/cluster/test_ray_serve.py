"""What `RayServe` starts and asks, and what it makes of a Ray that comes and goes."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tunesmith.cluster.ray_jobs import RayJobs
from tunesmith.cluster.ray_serve import Ray, RayServe, Waits
from tunesmith.domain.answers import Answerer, Piece, Prompts, Question
from tunesmith.domain.errors import BusyError, ClusterUnavailableError
from tunesmith.domain.models import CatalogueEntry, FolderSource

ASK = Question(
    answerer=Answerer(base=CatalogueEntry(name="tiny", source=FolderSource(path=Path("/tiny")))),
    asked=Prompts(prompts=("one",)),
)


class Stub:
    """A dashboard and a proxy of Serve's in one, as far as they are asked here."""

    def __init__(self) -> None:
        self.looks: list[str | None] = ["RUNNING"]
        """Status of the application at each look; the last one stays."""
        self.lines: list[dict[str, Any]] = [{"prompt_tokens": 2}, {"text": "Yes.", "tokens": 1}]
        self.status = 200
        self.name = ""
        """Of the application."""
        self.submitted: list[dict[str, Any]] = []
        self.ended: dict[str, str] = {}
        """Submissions that are known, with their states."""
        self.asked: list[tuple[dict[str, str], Any]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                code, text = stub.look(self.path)
                self.send_response(code)
                self.end_headers()
                self.wfile.write(text.encode())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200 if self.path != f"/{stub.name}" else stub.status)
                self.end_headers()
                if self.path == f"/{stub.name}":
                    stub.asked.append((dict(self.headers), body))
                    for line in stub.lines:
                        self.wfile.write(json.dumps(line).encode() + b"\n")
                else:
                    stub.submitted.append(body)
                    stub.ended[body["submission_id"]] = "RUNNING"

            def log_message(self, *_: Any) -> None:
                """Keep the test's output clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def look(self, path: str) -> tuple[int, str]:
        if path != "/api/serve/applications/":
            state = self.ended.get(path.rpartition("/")[2])
            if state is None:
                return 404, f"Job {path} does not exist"
            return 200, json.dumps({"status": state})
        status = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        applications = {} if status is None else {self.name: {"status": status}}
        options = {} if status is None else {"host": "127.0.0.1", "port": self.port}
        return 200, json.dumps({"applications": applications, "http_options": options})

    def find(self) -> Ray:
        address = f"http://127.0.0.1:{self.port}"
        return Ray(RayJobs(address, python="python"), address)


@pytest.fixture
def stub() -> Iterator[Stub]:
    made = Stub()
    yield made
    made.server.shutdown()
    made.server.server_close()


def told(door: RayServe, stub: Stub | None = None, *, times: int = 1) -> list[Piece]:
    if stub is not None:
        stub.name = door.application

    async def listen() -> list[Piece]:
        found = []
        for _ in range(times):
            found = [piece async for piece in door.ask(ASK)]
        await door.close()
        return found

    return asyncio.run(listen())


def test_a_question_goes_where_the_application_runs_with_the_folders_secret(
    stub: Stub, tmp_path: Path
) -> None:
    found = told(RayServe(stub.find, data=tmp_path), stub, times=2)

    other = tmp_path / "other"
    other.mkdir()
    assert RayServe(stub.find, data=other).application != stub.name

    assert found == [Piece(prompt_tokens=2), Piece(text="Yes.", tokens=1)]
    assert stub.submitted == []
    headers, body = stub.asked[0]
    secret = (tmp_path / "answers.token").read_text()
    assert headers["Authorization"] == f"Bearer {secret}"
    assert len(secret) == 64
    assert (tmp_path / "answers.token").stat().st_mode & 0o777 == 0o600
    assert Question.model_validate(body) == ASK
    assert {path.name for path in tmp_path.iterdir()} == {"answers.token", "other"}


def test_the_application_is_started_once_and_waited_for(stub: Stub, tmp_path: Path) -> None:
    stub.looks = [None, None, "DEPLOYING", "RUNNING"]

    found = told(RayServe(stub.find, data=tmp_path), stub)

    assert found[-1].text == "Yes."
    (submission,) = stub.submitted
    assert submission["submission_id"] == f"{stub.name}-1"
    assert f"--data {tmp_path}" in submission["entrypoint"]
    assert "--host 127.0.0.1" in submission["entrypoint"]
    assert submission["entrypoint_num_cpus"] == 0


def test_a_start_that_failed_is_made_again_under_another_name(stub: Stub, tmp_path: Path) -> None:
    stub.looks = [None, "RUNNING"]
    door = RayServe(stub.find, data=tmp_path)
    stub.ended = {f"{door.application}-1": "FAILED"}

    told(door, stub)

    assert [each["submission_id"] for each in stub.submitted] == [f"{stub.name}-2"]


def test_who_waits_too_long_is_told_when_to_come_again(stub: Stub, tmp_path: Path) -> None:
    stub.looks = ["DEPLOYING"]

    with pytest.raises(BusyError) as busy:
        told(RayServe(stub.find, data=tmp_path, waits=Waits(patience=0)), stub)

    assert busy.value.code == "models_starting"
    assert busy.value.retry_after > 0


def test_a_ray_that_is_starting_is_waited_for(stub: Stub, tmp_path: Path) -> None:
    looks = iter([False, True])

    def find() -> Ray:
        if not next(looks):
            raise ClusterUnavailableError("Ray is starting.")
        return stub.find()

    assert told(RayServe(find, data=tmp_path), stub)[-1].text == "Yes."


def test_no_ray_at_all_is_told(tmp_path: Path) -> None:
    def find() -> Ray:
        raise ClusterUnavailableError("Ray is starting.")

    with pytest.raises(ClusterUnavailableError, match="Ray is starting"):
        told(RayServe(find, data=tmp_path, waits=Waits(patience=0)))


def test_where_another_ray_has_come_the_question_goes_there(stub: Stub, tmp_path: Path) -> None:
    gone = Stub()
    stubs = iter([gone, stub])

    async def ask_twice() -> list[Piece]:
        door = RayServe(lambda: next(stubs).find(), data=tmp_path)
        gone.name = stub.name = door.application
        assert [piece async for piece in door.ask(ASK)]
        gone.server.shutdown()
        gone.server.server_close()
        found = [piece async for piece in door.ask(ASK)]
        await door.close()
        return found

    assert asyncio.run(ask_twice())[-1].text == "Yes."
    assert len(stub.asked) == 1


def test_a_refusal_of_the_proxy_is_a_cluster_that_does_not_answer(
    stub: Stub, tmp_path: Path
) -> None:
    stub.status = 404

    with pytest.raises(ClusterUnavailableError, match="404"):
        told(RayServe(stub.find, data=tmp_path), stub)
