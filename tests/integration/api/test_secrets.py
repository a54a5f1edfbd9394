"""No secret is found in anything that the service writes or answers."""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tunesmith.api.app import create_app
from tunesmith.api.checks import FileChecks
from tunesmith.api.services import Services
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.cli.database import open_store
from tunesmith.cli.logs import log_formatter
from tunesmith.cluster.fake import FakeCluster
from tunesmith.cluster.fake_answering import FakeAnswering
from tunesmith.controller.doors import Doors
from tunesmith.controller.launch import Launcher
from tunesmith.controller.loop import Controller
from tunesmith.domain.clock import SystemClock
from tunesmith.domain.errors import ClusterUnavailableError
from tunesmith.domain.keys import Scope, new_key
from tunesmith.domain.models import CatalogueEntry, PackageSource
from tunesmith.settings import load_settings
from unit.controller.world import good_rows

EVENT = "fine_tuning.job.succeeded"
TOKENS = {
    "HF_TOKEN": "hf_aaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "WANDB_API_KEY": "wwwwwwwwwwwwwwwwwwwwwwwwwwww",
    "MLFLOW_TRACKING_TOKEN": "mmmmmmmmmmmmmmmmmmmmmmmmmmmm",
    "MLFLOW_TRACKING_PASSWORD": "pppppppppppppppppppppppppppp",
    "RAY_AUTH_TOKEN": "rrrrrrrrrrrrrrrrrrrrrrrrrrrr",
}
CATALOGUE = {"base": CatalogueEntry(name="base", source=PackageSource(package="p", file="f"))}


class Service:
    """The API and the controller over one data folder, and all that they wrote and answered."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.log = io.StringIO()
        self.answers: list[str] = []
        self.store, self.cluster = open_store(data), FakeCluster()
        self.secret, key = new_key("blue", "x", scope=Scope.WRITE, now=0, expires_at=None)
        self.store.add_key(key)
        artifacts, clock = LocalArtifacts(data), SystemClock()
        launcher = Launcher(artifacts, location=str(data), catalogue=CATALOGUE, keep_checkpoints=1)
        doors = Doors(store=self.store, cluster=self.cluster, artifacts=artifacts, clock=clock)
        self.controller = Controller(doors, launcher, crash_retries=0)
        services = Services(
            answering=FakeAnswering(),
            store=self.store,
            artifacts=artifacts,
            catalogue=CATALOGUE,
            organization="acme",
            clock=clock,
            max_upload_bytes=10_000,
            version="9.9",
            checks=FileChecks(lambda _: data, workers=1),
            open_without_keys=False,
        )
        self.http = TestClient(create_app(services), raise_server_exceptions=False)

    def ask(self, method: str, path: str, **request: object) -> int:
        headers = {"Authorization": f"Bearer {self.secret}"}
        answer = self.http.request(method, path, **{"headers": headers, **request})  # type: ignore[arg-type]
        self.answers += [answer.text, str(answer.headers)]
        return answer.status_code

    def everything(self) -> str:
        """Return all bytes of the data folder, the log and all answers."""
        files = [path for path in self.data.rglob("*") if path.is_file()]
        written = [path.read_bytes().decode("latin-1") for path in files]
        return "\n".join([*written, *self.answers, self.log.getvalue()])


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    for name, token in TOKENS.items():
        monkeypatch.setenv(name, token)
    service = Service(tmp_path)
    writer = logging.StreamHandler(service.log)
    writer.setFormatter(log_formatter(load_settings({"data": tmp_path})))
    root = logging.getLogger()
    level = root.level
    root.addHandler(writer)
    root.setLevel(logging.DEBUG)
    with service.http:
        yield service
    root.removeHandler(writer)
    root.setLevel(level)
    service.store.close()


def test_a_run_and_its_mishaps_leave_no_secret_anywhere(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "".join(json.dumps(row) + "\n" for row in good_rows())
    form = {"files": {"file": ("a.jsonl", rows)}, "data": {"purpose": "fine-tune"}}
    assert service.ask("POST", "/v1/files", **form) == 200
    file_id = json.loads(service.answers[0])["id"]
    wanted = {"model": "base", "training_file": file_id}
    assert service.ask("POST", "/v1/fine_tuning/jobs", json=wanted) == 200
    job_id = json.loads(service.answers[2])["id"]
    hook = {"name": "ci", "url": "https://example.org/", "event_types": [EVENT]}
    assert service.ask("POST", "/v1/webhook_endpoints", json=hook) == 200
    # The one answer that shows the secret; the database keeps it, to sign with.
    hook_secret = json.loads(service.answers[4])["signing_secret"]
    del service.answers[4:]
    assert service.ask("GET", "/v1/webhook_endpoints") == 200
    _misplace(service, service.secret)
    _misplace(service, hook_secret)
    _misplace_key(service)
    deadline = time.monotonic() + 60
    while not service.store.job(job_id).submission_open:
        assert time.monotonic() < deadline
        service.controller.step()

    secrets = [*TOKENS.values(), service.secret, hook_secret]

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(f"upstream said: {' '.join(secrets)}")

    def vanish() -> None:
        raise ClusterUnavailableError(f"401 for {TOKENS['RAY_AUTH_TOKEN']}")

    monkeypatch.setattr(type(service.store), "list_files", fail)
    assert service.ask("GET", "/v1/files") == 500
    monkeypatch.setattr(service.cluster, "status", lambda _: vanish())
    service.controller.step()
    monkeypatch.setattr(service.cluster, "status", fail)
    service.controller.step()

    assert hook_secret not in "".join([*service.answers, service.log.getvalue()])
    everything = service.everything()
    assert "upstream said: *** *** ***" in everything
    assert "401 for ***" in everything
    assert service.secret[:12] in everything
    for secret in (*TOKENS.values(), service.secret):
        assert secret not in everything


def _misplace(service: Service, secret: str) -> None:
    """Send a secret in places where a message or the log may repeat what was sent."""
    assert service.ask("GET", f"/v1/models/{secret}") == 404
    assert service.ask("GET", f"/{secret}") == 404
    assert service.ask("GET", "/v1/files", params={"limit": secret}) == 400
    assert service.ask("GET", "/v1/files", params={secret: "1"}) == 400
    job = {"model": secret, "training_file": secret}
    assert service.ask("POST", "/v1/fine_tuning/jobs", json=job) in (400, 404)
    assert service.ask("POST", "/v1/fine_tuning/jobs", json={secret: secret}) == 400


def _misplace_key(service: Service) -> None:
    """Send the key where a key does not belong, and one that is nearly it."""
    secret = service.secret
    assert service.ask("GET", "/v1/files", headers={"Authorization": f"Bearer {secret}x"}) == 401
    assert service.ask("GET", "/v1/files", headers={"Authorization": f"Basic {secret}"}) == 401
    assert service.ask("GET", "/v1/files", params={"api_key": secret}) == 400
    headers = {"Authorization": f"Bearer {secret}", "X-Client-Request-Id": secret}
    assert service.ask("GET", "/v1/files", headers=headers) == 200


def test_each_log_line_of_a_request_names_it_its_project_and_the_clients_id(
    service: Service,
) -> None:
    headers = {"Authorization": f"Bearer {service.secret}", "X-Client-Request-Id": "ada-17"}
    answer = service.http.get("/v1/files", params={"limit": 1}, headers=headers)
    [line] = [line for line in service.log.getvalue().splitlines() if "'/v1/files'" in line]
    request_id = answer.headers["X-Request-Id"]
    assert "GET '/v1/files' 200" in line
    assert line.endswith(f"[request={request_id} client=ada-17 project=blue]")
    assert "limit" not in line


def test_what_a_client_sends_as_its_id_writes_no_line_of_its_own(service: Service) -> None:
    headers = {"X-Client-Request-Id": "a b\tINFO forged", "X-Request-Id": "req_mine"}
    answer = service.http.get("/health", headers=headers)
    assert answer.headers["X-Request-Id"] != "req_mine"
    assert "forged" not in service.log.getvalue()


def test_each_log_line_of_a_job_names_it(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    form = {"files": {"file": ("a.jsonl", b"{}\n")}, "data": {"purpose": "fine-tune"}}
    service.ask("POST", "/v1/files", **form)
    wanted = {"model": "base", "training_file": json.loads(service.answers[0])["id"]}
    service.ask("POST", "/v1/fine_tuning/jobs", json=wanted)
    job_id = json.loads(service.answers[2])["id"]
    service.controller.step()
    lines = [line for line in service.log.getvalue().splitlines() if "controller.loop" in line]
    assert lines
    assert all(line.endswith(f"[job={job_id}]") for line in lines)
