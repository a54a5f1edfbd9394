"""A controller's loop that stands still is told from one that goes round."""

from __future__ import annotations

import threading

import pytest

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
