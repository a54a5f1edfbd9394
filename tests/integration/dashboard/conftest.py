from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser

from browser import Visit, chromium
from models.tiny import save_tiny_llama
from stand_in import StandIn, standing_in


@dataclass(frozen=True)
class Jobs:
    """The jobs of the stand-in."""

    ended: str
    running: str
    waiting: str


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # No longer than its module: Playwright runs an event loop in this thread for as long.
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def service(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    folder = tmp_path_factory.mktemp("stand-in")
    save_tiny_llama(folder)
    with standing_in(folder) as service:
        yield service


@pytest.fixture(scope="module")
def jobs(service: StandIn) -> Jobs:
    ended = service.finish(service.run(service.add_job(suffix="support"), steps=120))
    running = service.run(service.add_job(suffix="second", epochs=5), steps=40, total=200)
    return Jobs(ended.id, running.id, service.add_job(suffix="third").id)


@pytest.fixture
def visit(browser: Browser, service: StandIn) -> Iterator[Callable[..., Visit]]:
    """Return a function that begins a visit, in the look that it is given."""
    visits: list[Visit] = []

    def begin(look: str = "light") -> Visit:
        visits.append(Visit(browser, service.url, look=look))
        return visits[-1]

    yield begin
    for each in visits:
        each.close()
        assert each.faults == []
        assert each.foreign == []
