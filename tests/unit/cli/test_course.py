from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from tunesmith.cli.course import Course, curve
from tunesmith.cli.live import picture


def step(number: int, loss: float, **more: float) -> dict[str, Any]:
    data = {"step": number, "total_steps": 10, "train_loss": loss, "seconds_left": 75.0, **more}
    return {"type": "metrics", "data": data, "message": f"Step {number}"}


def said(message: str) -> dict[str, Any]:
    return {"type": "message", "data": None, "message": message}


JOB: dict[str, Any] = {"status": "running", "model": "base", "queue": None}


def test_a_falling_loss_falls_from_left_to_right() -> None:
    assert curve([3.0, 2.0, 1.0], width=10, height=1) == ["█▅▁"]
    assert curve([3.0, 1.0], width=10, height=2) == ["█", "█▁"]


def test_many_losses_are_averaged_into_the_width() -> None:
    [row] = curve([float(n) for n in range(1000)], width=8, height=1)
    assert row == "▁▂▃▄▅▆▇█"


def test_one_loss_makes_no_curve_and_equal_ones_a_flat_one() -> None:
    assert curve([1.0], width=8, height=1) == []
    assert curve([1.0, 1.0], width=8, height=1) == ["▁▁"]


def test_the_numbers_are_those_of_the_newest_step() -> None:
    course = Course("ftjob-1")
    course.take(JOB, [step(1, 2.0, valid_loss=1.5), step(2, 1.0)])
    assert course.numbers == "step 2/10  loss 1.0000  held out 1.5000  about 1 min 15 s left"


def test_steps_that_are_taken_again_after_a_loss_replace_the_first_ones() -> None:
    course = Course("ftjob-1")
    course.take(JOB, [step(1, 3.0), step(2, 2.0), step(3, 1.0), step(2, 1.9)])
    assert course.losses == [(1, 3.0), (2, 1.9)]


def test_the_headline_says_why_a_job_waits() -> None:
    course = Course("ftjob-1")
    course.take({"status": "queued", "model": "base", "queue": {"reason": "no room"}}, [])
    assert course.headline == "ftjob-1  base  queued (no room)"


def test_the_picture_has_bar_numbers_curve_and_newest_messages() -> None:
    course = Course("ftjob-1")
    course.take(JOB, [said("Created"), step(1, 2.0), step(2, 1.0), said("Checkpoint saved")])
    console = Console(file=io.StringIO(), width=60, force_terminal=True)
    console.print(picture(course, console))

    assert isinstance(console.file, io.StringIO)
    drawn = console.file.getvalue()
    for part in ("ftjob-1", "━", "step 2/10", "2.000", "1.000", "█▁", "Checkpoint saved"):
        assert part in drawn
