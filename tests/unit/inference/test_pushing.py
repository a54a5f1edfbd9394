"""Files are brought to a repository of a hub, by the hub's own client."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from tunesmith.domain.exports import PushHub
from tunesmith.inference import pushing
from tunesmith.inference.pushing import PushError, push


class Hub(ThreadingHTTPServer):
    """As much of a hub as an upload of small files asks for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, str | None]] = []
        self.files: dict[str, bytes] = {}
        self.created: dict[str, Any] = {}
        self.refuses = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        hub = self.server
        hub.seen.append((self.path, self.headers.get("Authorization")))
        if hub.refuses:
            self._answer({"error": "You may not."}, status=403)
        elif self.path.endswith("/repos/create"):
            hub.created = json.loads(body)
            self._answer({"url": f"{hub.url}/acme/mine"})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            told = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files
            ]
            self._answer({"files": told})
        else:
            for line in body.splitlines():
                found = json.loads(line)
                if found["key"] == "file":
                    content = base64.b64decode(found["value"]["content"])
                    hub.files[found["value"]["path"]] = content
            self._answer({"commitUrl": f"{hub.url}/acme/mine/commit/abc", "commitOid": "abc"})

    def do_GET(self) -> None:
        self._answer({"sha": "abc", "siblings": [], "id": "acme/mine"})

    def _answer(self, body: dict[str, Any], *, status: int = 200) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def client() -> huggingface_hub.HfApi:
            return huggingface_hub.HfApi(endpoint=server.url, token="hf_secret")

        monkeypatch.setattr(pushing, "_client", client)
        yield server
        server.shutdown()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "1_Pooling" / "config.json").write_text("[]")
    return tmp_path


def test_files_go_to_a_private_repository_in_one_commit(hub: Hub, files: Path) -> None:
    push(files, PushHub(repo="acme/mine"), message="ft:tiny:acme::1 (merged)")
    assert hub.files == {"config.json": b"{}", "1_Pooling/config.json": b"[]"}
    assert (hub.created["name"], hub.created["organization"]) == ("mine", "acme")
    assert hub.created["visibility"] == "private"
    assert {token for _, token in hub.seen} == {"Bearer hf_secret"}
    assert len([path for path, _ in hub.seen if "/commit/" in path]) == 1


def test_a_hub_that_refuses_is_told_without_the_token(hub: Hub, files: Path) -> None:
    hub.refuses = True
    with pytest.raises(PushError, match="HF_TOKEN") as raised:
        push(files, PushHub(repo="acme/mine"), message="m")
    assert "hf_secret" not in str(raised.value)
    assert hub.files == {}
