"""A sender sends all, in order, however often the service is gone, and holds nobody up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import pytest

from tunesmith.training import sender
from tunesmith.training.board import Point, SilentError
from tunesmith.training.sender import Sender


class Service:
    """Takes points, unless it is down."""

    def __init__(self, *, down: bool = False) -> None:
        self.points: list[int] = []
        self.outcomes: list[str] = []
        self.calls = 0
        self.down = down

    def connect(self) -> Service:
        return self

    def send(self, points: Sequence[Point]) -> None:
        self._call()
        self.points += [point.step for point in points]

    def end(self, outcome: str) -> None:
        self._call()
        self.outcomes.append(outcome)

    def _call(self) -> None:
        self.calls += 1
        if self.down:
            raise ConnectionError


def points(*steps: int) -> list[Point]:
    return [Point(step, 0, {"train_loss": 1.0}) for step in steps]


def started(connect: Callable[[], Service]) -> Sender:
    made = Sender(connect, final=(ModuleNotFoundError,))
    made.start()
    return made


def test_all_points_are_sent_in_their_order_and_then_the_end() -> None:
    service = Service()
    found = started(service.connect)

    found.put(points(*range(1, 201)))
    found.end("succeeded", seconds=10)

    assert service.points == list(range(1, 201))
    assert service.outcomes == ["succeeded"]


def test_what_a_service_missed_is_sent_once_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "_PAUSES", (0.001, 0.001))
    service = Service(down=True)
    found = started(service.connect)
    found.put(points(1))
    with pytest.raises(SilentError) as silent:
        until_it_complains(found)
    assert isinstance(silent.value.__cause__, ConnectionError)

    # It is told once.
    found.put(points(2))
    service.down = False
    found.put(points(3))
    found.end("succeeded", seconds=10)

    assert service.points == [1, 2, 3]
    assert service.outcomes == ["succeeded"]


def until_it_complains(found: Sender) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found.put([])
        time.sleep(0.001)


def test_at_the_end_a_service_that_is_gone_is_asked_once_more() -> None:
    service = Service(down=True)
    found = started(service.connect)
    found.put(points(1))
    with pytest.raises(SilentError):
        until_it_complains(found)

    found.end("succeeded", seconds=10)

    assert service.calls == 2


def test_what_cannot_pass_is_raised_and_nothing_is_tried_again() -> None:
    calls: list[int] = []

    def connect() -> Service:
        calls.append(1)
        raise ModuleNotFoundError

    found = started(connect)
    with pytest.raises(ModuleNotFoundError):
        found.end("succeeded", seconds=10)

    assert len(calls) == 1


def test_a_service_that_hangs_holds_the_end_up_no_longer_than_allowed() -> None:
    release = threading.Event()

    def connect() -> Service:
        release.wait()
        return Service()

    found = started(connect)
    with pytest.raises(TimeoutError):
        found.end("succeeded", seconds=0.01)
    release.set()


def test_points_do_not_heap_up_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "_MOST_WAITING", 3)
    release = threading.Event()

    def connect() -> Service:
        release.wait()
        return Service()

    found = started(connect)
    found.put(points(1, 2, 3))
    with pytest.raises(OverflowError):
        found.put(points(4))
    release.set()
