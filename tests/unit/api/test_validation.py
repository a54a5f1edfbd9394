"""`POST /v1/files/{id}/validate`: the report over HTTP, made by a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pytest
from starlette.testclient import TestClient

from models.tiny import byte_tokenizer
from tunesmith.api import checks
from tunesmith.api.app import create_app
from tunesmith.api.checks import AT_ONCE, FileChecks
from tunesmith.domain.errors import RateLimitError, TokenizerMissingError
from tunesmith.domain.models import CatalogueEntry, FolderSource
from tunesmith.domain.validation import ValidationOptions, ValidationReport

if TYPE_CHECKING:
    from unit.api.conftest import World

Upload = Callable[..., dict[str, Any]]

GOOD = "".join(
    json.dumps({"prompt": f"What is {n} + 1?", "completion": f"It is {n + 1}."}) + "\n"
    for n in range(12)
).encode()


def test_the_answer_has_the_stated_shape(http: TestClient, upload: Upload) -> None:
    file = upload(content=GOOD + b'{"prompt": 1}\n' + GOOD.splitlines()[3])

    answer = http.post(f"/v1/files/{file['id']}/validate", json={})

    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["object"], body["file"], body["format"]) == (
        "file.validation",
        file["id"],
        "prompt_completion",
    )
    assert (body["valid"], body["examples"], body["truncated"]) == (False, 13, False)
    assert body["counts"]["wrong_type"] == 1
    assert body["counts"]["duplicate"] == 1
    error = next(error for error in body["errors"] if error["rule"] == "wrong_type")
    assert {key: error[key] for key in ("line", "pointer", "severity")} == {
        "line": 13,
        "pointer": "/prompt",
        "severity": "error",
    }
    assert body["tokens"] is None
    assert body["estimate"]["batch_size"] == 4


def test_bad_rows_within_the_share_that_a_job_sets_aside_leave_the_file_valid(
    http: TestClient, upload: Upload
) -> None:
    path = f"/v1/files/{upload(content=GOOD + b'7')['id']}/validate"

    taken = http.post(path, json={"bad_rows": "set_aside", "bad_rows_share": 0.2}).json()
    refused = http.post(path, json={"bad_rows": "set_aside", "bad_rows_share": 0.01}).json()

    assert (taken["valid"], taken["bad_rows"], taken["counts"]) == (True, 1, {"not_an_object": 1})
    assert (refused["valid"], refused["counts"]["too_many_bad_rows"]) == (False, 1)
    assert http.post(path, json={"bad_rows": "cut"}).status_code == 400


def test_what_is_asked_for_decides_method_overlap_and_steps(
    http: TestClient, upload: Upload
) -> None:
    file, held_out = upload(content=GOOD), upload(content=GOOD.splitlines()[5] + b"\n")

    body = http.post(
        f"/v1/files/{file['id']}/validate",
        json={
            "method": "supervised",
            "validation_file": held_out["id"],
            "n_epochs": 2,
            "batch_size": "auto",
        },
    ).json()

    assert (body["method"], body["valid"], body["counts"]) == ("supervised", True, {"overlap": 1})
    assert body["errors"][0]["line"] == 6
    assert body["estimate"] == {
        "n_epochs": 2,
        "batch_size": 4,
        "steps": 6,
        "trained_tokens": None,
    }


def test_with_a_model_tokens_are_counted(world: World, upload: Upload, tmp_path: Path) -> None:
    byte_tokenizer().save_pretrained(tmp_path)
    tiny = CatalogueEntry(name="tiny", source=FolderSource(path=tmp_path))
    services = replace(world.services, catalogue={"tiny": tiny})
    file = upload(content=GOOD)
    with TestClient(create_app(services)) as http:
        body = http.post(
            f"/v1/files/{file['id']}/validate", json={"model": "tiny", "max_length": 64}
        ).json()

    assert body["tokens"]["model"] == "tiny"
    assert body["tokens"]["max_length"] == 64
    assert 0 < body["tokens"]["learnt"] < body["tokens"]["total"]
    assert sum(bar["examples"] for bar in body["tokens"]["histogram"]) == 12


@pytest.mark.parametrize(
    ("body", "status", "param", "says"),
    [
        ({"modle": "x"}, 400, "modle", "no known key"),
        ({"max_length": 1}, 400, "max_length", "at least 8"),
        ({"method": "reinforcement"}, 400, "method", "supervised"),
        ({"model": "no-such"}, 404, "model", "does not exist"),
        ({"validation_file": "file-none"}, 404, "validation_file", "file-none"),
        ({"model": "org/tiny-llama"}, 400, "model", "tokenizer.json"),
    ],
)
def test_a_wrong_request_is_refused_by_its_key(
    http: TestClient,
    upload: Upload,
    body: dict[str, Any],
    status: int,
    param: str,
    says: str,
) -> None:
    file = upload(content=GOOD)

    answer = http.post(f"/v1/files/{file['id']}/validate", json=body)

    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert says in error["message"]
    assert error["param"] == param


def test_a_file_is_checked_without_a_body_as_with_an_empty_object(
    http: TestClient, upload: Upload
) -> None:
    path = f"/v1/files/{upload(content=GOOD)['id']}/validate"
    assert http.post(path).json() == http.post(path, json={}).json()


def test_a_file_that_is_not_there_is_404(http: TestClient) -> None:
    assert http.post("/v1/files/file-none/validate", json={}).status_code == 404


def test_a_check_that_nobody_waits_for_any_longer_ends_its_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = asyncio.create_subprocess_exec

    async def leave() -> int | None:
        started: asyncio.Future[asyncio.subprocess.Process] = asyncio.Future()

        async def noting(*command: str, **named: Any) -> asyncio.subprocess.Process:
            started.set_result(await start(*command, **named))
            return started.result()

        monkeypatch.setattr(asyncio, "create_subprocess_exec", noting)
        door = FileChecks(lambda _: Path(), workers=1)
        check = asyncio.ensure_future(door.validate(endless(), ValidationOptions()))
        child = await started
        check.cancel()
        with pytest.raises(asyncio.CancelledError):
            await check
        return child.returncode

    assert asyncio.run(leave()) == -signal.SIGKILL


def endless() -> BinaryIO:
    """Return a file that takes the check far longer than the test."""
    return BytesIO(b'{"prompt": "a", "completion": "b"}\n' * 300_000)


def test_beyond_those_that_may_wait_a_check_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "MOST_WAITING", 0)
    door = FileChecks(lambda _: Path(), workers=1)

    with pytest.raises(RateLimitError, match="Too many files wait"):
        asyncio.run(door.validate(BytesIO(GOOD), ValidationOptions()))


def test_a_tokenizer_that_takes_its_time_holds_up_no_other_file() -> None:
    arrived = threading.Event()

    def slow_folder(_: CatalogueEntry) -> Path:
        assert arrived.wait(60)
        raise TokenizerMissingError

    async def ask() -> bool:
        door = FileChecks(slow_folder, workers=1)
        entry = CatalogueEntry(name="m", source=FolderSource(path=Path("/models")))
        waiting = [
            asyncio.create_task(door.validate(BytesIO(GOOD), ValidationOptions(), entry=entry))
            for _ in range(AT_ONCE)
        ]
        # They have begun by the next turn of the loop, and wait for their tokenizer.
        await asyncio.sleep(0)
        try:
            return (await door.validate(BytesIO(GOOD), ValidationOptions())).ok
        finally:
            arrived.set()
            await asyncio.gather(*waiting, return_exceptions=True)

    assert asyncio.run(asyncio.wait_for(ask(), 30))


@pytest.mark.parametrize("method", ["reasoning", "pretraining", "embedding", "rerank"])
def test_a_file_is_checked_for_our_own_objectives_as_for_openais_methods(
    http: TestClient, upload: Upload, method: str
) -> None:
    file = upload(content=b'{"query": "a", "pos": ["b"], "neg": ["c"]}\n' * 12)

    answer = http.post(f"/v1/files/{file['id']}/validate", json={"method": method})

    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["method"] == method
    assert ("wrong_method" in body["counts"]) is (method in ("reasoning", "pretraining"))


class Distant(BytesIO):
    """A file in a bucket, which gives nothing until something else was answered."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.asked = threading.Event()
        self.other_answered = threading.Event()
        self.waited_in_vain = False

    def read(self, size: int | None = -1, /) -> bytes:
        self.asked.set()
        self.waited_in_vain |= not self.other_answered.wait(20)
        return super().read(size)


def test_others_are_answered_while_a_file_comes_from_a_bucket(tmp_path: Path) -> None:
    file, held_out = Distant(GOOD), Distant(GOOD.splitlines()[5] + b"\n")
    checking = FileChecks(lambda _: tmp_path, workers=1)

    async def both() -> ValidationReport:
        check = asyncio.ensure_future(
            checking.validate(file, ValidationOptions(), held_out=held_out)
        )
        for stream in (file, held_out):
            await asyncio.to_thread(stream.asked.wait, 20)
            stream.other_answered.set()
        return await check

    report = asyncio.run(both())

    assert not file.waited_in_vain
    assert not held_out.waited_in_vain
    assert (report.examples, report.counts["overlap"]) == (12, 1)
