"""Exports, against a service that answers as the API of exports does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tunesmith.cli import exports
from tunesmith.cli.main import app
from tunesmith.cli.service import Service

CONTENT = b"weights"


def made(status: str = "queued", **changes: Any) -> dict[str, Any]:
    """An export as the API shows it."""
    files = [
        {"name": name, "bytes": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
        for name in ("adapter_config.json", "adapter_model.safetensors")
    ]
    return {
        "id": "exp_1", "object": "model.export", "model": "ft:a:b::c", "status": status,
        "progress": 0.5, "message": None, "error": None, "push_to": None,
        "files": files if status == "succeeded" else [],
    } | changes  # fmt: skip


@dataclass
class Scripted:
    """Answers in turn, and remembers what it was asked."""

    answers: list[dict[str, Any]]
    content: bytes = CONTENT
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert path == "/exports"
        self.bodies.append(body)
        return made()

    def get(self, path: str) -> dict[str, Any]:
        assert path == "/exports/exp_1"
        return self.answers.pop(0)

    def download(self, path: str, target: Path, *, told: Callable[[int], None]) -> None:
        assert path == f"/exports/exp_1/content/{target.name}"
        target.write_bytes(self.content)
        told(len(self.content))


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    script = Scripted([made("running"), made("succeeded")])
    for name in ("post", "get", "download"):
        monkeypatch.setattr(Service, name, getattr(script, name))
    monkeypatch.setattr(exports, "PAUSE", 0.0)
    return script


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["models", "export", "ft:a:b::c", *words])


def test_it_waits_and_downloads_each_file(scripted: Scripted, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    told = run("--format", "gguf", "--quantization", "q8_0", "--output", str(folder))

    assert told.exit_code == 0, told.output
    assert told.stdout == f"{folder}\n"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "adapter_config.json": CONTENT,
        "adapter_model.safetensors": CONTENT,
    }
    [body] = scripted.bodies
    assert body == {
        "model": "ft:a:b::c",
        "format": "gguf",
        "quantization": "q8_0",
        "push_to": None,
    }


def test_with_json_the_export_stands_alone(scripted: Scripted, tmp_path: Path) -> None:
    told = run("--output", str(tmp_path / "out"), "--json")
    assert json.loads(told.stdout) == made("succeeded")


def test_what_is_pushed_is_not_downloaded(scripted: Scripted, tmp_path: Path) -> None:
    scripted.answers = [made("succeeded", push_to="own/er")]
    told = run("--push-to", "own/er")
    assert told.stdout == "Pushed to own/er.\n"


def test_a_folder_with_files_is_refused_before_anything_is_asked(
    scripted: Scripted, tmp_path: Path
) -> None:
    (tmp_path / "mine").touch()
    told = run("--output", str(tmp_path))
    assert told.exit_code == 1
    assert "is there already" in told.stderr
    assert scripted.bodies == []


def test_a_failed_export_says_why(scripted: Scripted, tmp_path: Path) -> None:
    error = {"code": "no_gguf", "message": "No.", "param": None}
    scripted.answers = [made("failed", error=error)]
    told = run("--output", str(tmp_path / "out"))
    assert told.exit_code == 4
    assert told.stdout == "exp_1 is failed: No. (no_gguf)\n"
    assert not (tmp_path / "out").exists()


def test_a_damaged_file_is_deleted(scripted: Scripted, tmp_path: Path) -> None:
    scripted.content = b"weighs"
    told = run("--output", str(tmp_path / "out"))
    assert told.exit_code == 1
    assert "arrived damaged" in told.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_no_file_leaves_the_folder(scripted: Scripted, tmp_path: Path) -> None:
    files = [{"name": "../gone", "bytes": 1, "sha256": ""}]
    scripted.answers = [made("succeeded", files=files)]
    told = run("--output", str(tmp_path / "out"))
    assert told.exit_code == 1
    assert "would leave" in told.stderr
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_the_export_to_the_service(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def pressed(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tunesmith.cli.exports.time.sleep", pressed)
    told = run("--output", str(tmp_path / "out"))
    assert told.exit_code == 130
    assert "goes on with exp_1" in told.stderr


def do(*words: str) -> Result:
    return CliRunner().invoke(app, ["exports", *words])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, dict[str, Any]]]:
    """What the service is asked; of a list it has one export, which has succeeded."""
    seen: list[tuple[str, str, dict[str, Any]]] = []

    def answer(method: str) -> Callable[..., dict[str, Any]]:
        def answered(_: Service, path: str, **query: Any) -> dict[str, Any]:
            seen.append((method, path, query))
            if path == "/exports":
                return {"object": "list", "data": [one], "has_more": False}
            return one | {"status": "cancelled"} if path.endswith("/cancel") else one

        return answered

    one = made("succeeded", format="gguf", quantization="q8_0", created_at=0)
    for name in ("get", "post", "delete"):
        monkeypatch.setattr(Service, name, answer(name))
    return seen


def test_exports_are_listed_with_what_they_are(
    asked: list[tuple[str, str, dict[str, Any]]],
) -> None:
    told = do("list", "--limit", "5", "--after", "exp_0")

    words = ("exp_1", "succeeded", "gguf q8_0", "14 B", "ft:a:b::c")
    assert all(word in told.stdout for word in words)
    assert asked == [("get", "/exports", {"limit": 5, "after": "exp_0"})]
    assert json.loads(do("list", "--json").stdout)["data"][0]["id"] == "exp_1"


@pytest.mark.parametrize(
    ("command", "method", "path", "says"),
    [
        ("get", "get", "/exports/exp_1", "gguf"),
        ("cancel", "post", "/exports/exp_1/cancel", "exp_1 is cancelled."),
        ("delete", "delete", "/exports/exp_1", "exp_1 is deleted."),
    ],
)
def test_an_export_is_named_by_its_id(
    asked: list[tuple[str, str, dict[str, Any]]], command: str, method: str, path: str, says: str
) -> None:
    told = do(command, "exp_1")

    assert told.exit_code == 0, told.output
    assert says in told.stdout
    assert asked == [(method, path, {})]
    assert json.loads(do(command, "exp_1", "--json").stdout)["id"] == "exp_1"


def test_an_export_is_downloaded_once_more(scripted: Scripted, tmp_path: Path) -> None:
    scripted.answers = [made("succeeded")]
    folder = tmp_path / "again"

    told = do("download", "exp_1", "--output", str(folder))

    assert told.stdout == f"{folder}\n"
    assert len(list(folder.iterdir())) == 2


def test_an_export_that_runs_has_nothing_to_download(scripted: Scripted, tmp_path: Path) -> None:
    told = do("download", "exp_1", "--output", str(tmp_path / "out"))

    assert told.exit_code == 1
    assert "is running, and has no files" in told.stderr
    assert not (tmp_path / "out").exists()
