"""The port of the controller's own tells whether its loop goes round, and its metrics."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tunesmith.cli.controller_port import open_port

STANDS = "The controller's loop has stood still for 300 s."


class Loop:
    """What the port asks."""

    lacking: str | None = None

    def lack(self) -> str | None:
        return self.lacking


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture(params=["127.0.0.1", "::1"])
def http(loop: Loop, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    host: str = request.param
    try:
        server = open_port(host, 0, lack=loop.lack)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    shown = f"[{host}]" if ":" in host else host
    with httpx.Client(base_url=f"http://{shown}:{server.server_port}", trust_env=False) as client:
        yield client
    server.shutdown()
    server.server_close()


def test_health_is_well_while_the_loop_goes_round(http: httpx.Client, loop: Loop) -> None:
    for lacking, status in ((None, 200), (STANDS, 503), (None, 200)):
        loop.lacking = lacking
        answer = http.get("/health")
        assert (answer.status_code, answer.text) == (status, lacking or "")


def test_any_other_path_tells_the_metrics(http: httpx.Client, loop: Loop) -> None:
    loop.lacking = STANDS
    for path in ("/metrics", "/", "/health/more"):
        answer = http.get(path)
        assert answer.status_code == 200
        assert "tunesmith_store_transaction_seconds" in answer.text


def test_it_logs_no_request(http: httpx.Client, capfd: pytest.CaptureFixture[str]) -> None:
    http.get("/health")
    assert capfd.readouterr() == ("", "")


def test_a_port_that_is_taken_is_an_error(http: httpx.Client, loop: Loop) -> None:
    host, port = http.base_url.host, http.base_url.port
    assert port is not None
    with pytest.raises(OSError, match="in use"):
        open_port(host, port, lack=loop.lack)
