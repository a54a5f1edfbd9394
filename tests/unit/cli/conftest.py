"""An API over the fakes on a real port, and the command line that asks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from tunesmith.api.streams import EventStreams
from tunesmith.cli.main import app
from unit.api.conftest import World
from unit.api.live import Live

Ask = Callable[..., Result]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def url(world: World) -> Iterator[str]:
    streams = EventStreams(world.store, most=2, pause=0.02, patience=0.1, heartbeat=0.2)
    with Live(world, streams) as client, client:
        yield str(client.base_url)


@pytest.fixture
def ask(url: str) -> Ask:
    """Return a function that runs a command against the service."""

    def run(*words: str, text: str | None = None) -> Result:
        return CliRunner().invoke(app, [*words, "--url", url], input=text)

    return run
