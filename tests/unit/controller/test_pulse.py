"""A controller's loop that stands still is told from one that goes round."""

from __future__ import annotations

import threading
import time

import pytest

from tunesmith.controller.loop import PAUSE
from tunesmith.controller.pulse import STANDSTILL, Pulse
from unit.controller.world import World


class Seconds:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def test_a_loop_that_stands_still_lacks_its_rounds_until_the_next_one() -> None:
    seconds = Seconds()
    pulse = Pulse(seconds)
    pulse.beat()
    seconds.now += STANDSTILL - 1
    assert pulse.lack() is None
    seconds.now += 1
    assert pulse.lack() == "The controller's loop has stood still for 300 s."
    pulse.beat()
    assert pulse.lack() is None


def test_before_the_first_round_there_is_no_haste() -> None:
    seconds = Seconds()
    pulse = Pulse(seconds)
    seconds.now += 10 * STANDSTILL
    assert pulse.lack() is None


def test_each_pass_is_a_round_also_one_that_fails(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith.controller.loop.PAUSE", 0)
    stop, beats = threading.Event(), list[int]()

    def fail() -> None:
        if len(beats) == 3:
            stop.set()
        raise OSError

    monkeypatch.setattr(world.controller, "step", fail)
    world.controller.run(stop, beat=lambda: beats.append(1))
    assert len(beats) == 3


class Pauses(threading.Event):
    """Notes how long the controller waits between passes; set after so many of them."""

    def __init__(self, most: int, world: World) -> None:
        super().__init__()
        self.lengths: list[float] = []
        self._most, self._world = most, world

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.lengths.append(timeout)
        # Files are checked in a thread of its own, which must come to its turn.
        time.sleep(0.002)
        if len(self.lengths) == 8:
            self._world.add_job()
        return len(self.lengths) > self._most


def test_a_pass_follows_soon_on_one_that_found_something_new_and_seldom_while_all_is_quiet(
    world: World,
) -> None:
    pauses = Pauses(400, world)
    world.controller.run(pauses)

    before, after = pauses.lengths[:8], pauses.lengths[8:]
    assert before == [PAUSE] * 8
    assert after[0] < PAUSE / 2
    assert after[-1] == PAUSE
    assert [job.attempt for job in world.store.open_jobs()] == [1]
