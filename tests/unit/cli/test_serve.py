from __future__ import annotations

import socket
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from tunesmith.cli import controller_process, serve
from tunesmith.cli.database import open_store
from tunesmith.domain.errors import SettingsError
from tunesmith.domain.keys import Scope, new_key
from tunesmith.settings import load_settings


@pytest.mark.parametrize(
    ("absent", "address", "extra"),
    [
        ("psutil", "", r"tunesmith\[ray\]"),
        ("ray", "ray://head:10001", r"tunesmith\[ray\].*RAY_ADDRESS"),
        ("torch", "", r"tunesmith\[train\].*RAY_ADDRESS"),
    ],
)
def test_an_install_without_what_jobs_need_is_refused_before_it_listens(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, absent: str, address: str, extra: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(serve, "find_spec", lambda module: None if module == absent else module)

    with pytest.raises(SettingsError, match=extra):
        serve.serve_service(load_settings({"data": tmp_path / "data", "port": 0}))

    assert not (tmp_path / "data").exists()


def test_the_api_of_a_cluster_with_a_dashboard_needs_neither_ray_nor_torch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    monkeypatch.setattr(serve, "find_spec", lambda module: None)
    monkeypatch.setattr(serve, "_serve_api", lambda *given, **named: None)

    serve.serve_service(load_settings({"data": tmp_path / "data", "port": 0}))

    assert (tmp_path / "data").exists()


def test_a_port_that_is_taken_is_refused_with_the_mend(tmp_path: Path) -> None:
    given = {"data": tmp_path, "port": 0}
    with serve._bind(load_settings(given)) as listener:
        listener.listen()
        taken = load_settings(given | {"port": listener.getsockname()[1]})
        with pytest.raises(SettingsError, match=r"Cannot listen on .*--port"):
            serve.serve_service(taken)


def test_whoever_reads_the_address_can_connect_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load_settings({"data": tmp_path, "port": 0})
    with serve._bind(settings) as listener:
        serve._announce(settings, listener, store=open_store(tmp_path))

        with socket.create_connection(listener.getsockname(), timeout=5) as connection:
            assert f":{connection.getpeername()[1]}/v1" in capsys.readouterr().out


class Child:
    """A controller that lives until it is asked to end."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def wait(self, timeout: float | None = None) -> int:
        assert self.asked.wait(timeout or 20)
        return 0

    def terminate(self) -> None:
        self.asked.set()


def test_a_controller_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    controller = controller_process.ControllerProcess(load_settings({"data": tmp_path}))
    child, begun = Child(), threading.Event()
    answers: list[OSError | Child] = [OSError("no memory"), BrokenPipeError("died"), child]

    def start() -> Child:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        begun.set()
        return answer

    monkeypatch.setattr(controller_process, "RESTART_PAUSE", 0.01)
    monkeypatch.setattr(controller, "_start", start)
    server = SimpleNamespace(started=True)
    watch = threading.Thread(target=controller.keep_alive, args=(server,))
    watch.start()

    assert begun.wait(20)
    controller.end()
    watch.join(20)
    assert child.asked.is_set()
    assert not watch.is_alive()
    assert "could not be started: no memory" in caplog.text


def everywhere(tmp_path: Path, **given: object) -> None:
    """Serve all addresses; what is refused is refused before anything else starts."""
    serve.serve_service(load_settings({"data": tmp_path, "host": "0.0.0.0", "port": 0, **given}))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note that the API would have started, instead of starting it."""
    noted: list[str] = []
    monkeypatch.setattr(serve, "_serve_api", lambda *_, **__: noted.append("API"))
    return noted


def test_an_address_for_others_is_refused_while_there_is_no_key(
    tmp_path: Path, started: list[str]
) -> None:
    with pytest.raises(SettingsError, match=r"0\.0\.0\.0 is not loopback.*keys create.*allow-open"):
        everywhere(tmp_path)
    assert not started


def test_an_address_for_others_is_served_with_a_usable_key(
    tmp_path: Path, started: list[str]
) -> None:
    store = open_store(tmp_path)
    _, expired = new_key("default", "old", scope=Scope.ADMIN, now=1, expires_at=2)
    store.add_key(expired)
    with pytest.raises(SettingsError, match="keys create"):
        everywhere(tmp_path)
    _, usable = new_key("default", "me", scope=Scope.ADMIN, now=1, expires_at=None)
    store.add_key(usable)
    everywhere(tmp_path)
    assert started == ["API"]


def test_an_address_for_others_is_served_open_where_the_operator_says_so(
    tmp_path: Path, started: list[str]
) -> None:
    everywhere(tmp_path, allow_open=True)
    assert started == ["API"]


@pytest.mark.parametrize("part", serve.Part)
def test_a_part_that_is_named_runs_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, part: serve.Part
) -> None:
    noted: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        serve,
        "_serve_api",
        lambda *_, controller, **__: noted.append(("api", controller is None)),
    )
    monkeypatch.setattr(
        serve, "run_controller", lambda *_, alone: noted.append(("controller", alone))
    )

    serve.serve_service(load_settings({"data": tmp_path, "port": 0}), only=part)

    assert noted == [(part.value, True)]


def test_both_parts_run_where_none_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    noted: list[object] = []
    monkeypatch.setattr(serve, "_serve_api", lambda *_, controller, **__: noted.append(controller))

    serve.serve_service(load_settings({"data": tmp_path, "port": 0}))

    assert isinstance(noted[0], controller_process.ControllerProcess)


def test_an_api_alone_needs_nothing_of_what_runs_jobs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, started: list[str]
) -> None:
    monkeypatch.setattr(serve, "find_spec", lambda _: None)

    serve.serve_service(load_settings({"data": tmp_path, "port": 0}), only=serve.Part.API)

    assert started == ["API"]


def test_a_controller_alone_needs_what_runs_jobs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(serve, "find_spec", lambda _: None)

    with pytest.raises(SettingsError, match=r"tunesmith\[ray,train\]"):
        serve.serve_service(load_settings({"data": tmp_path}), only=serve.Part.CONTROLLER)
