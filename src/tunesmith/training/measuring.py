"""Measures what a run would take, by a few steps of which nothing is kept."""

from __future__ import annotations

import resource
import time
from dataclasses import replace

import numpy as np

from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.estimates import Measurement
from tunesmith.domain.spec import TrainSpec
from tunesmith.training.data import Data
from tunesmith.training.examples import Examples, Indices, batch_of_step
from tunesmith.training.loop import Course, learn, total_steps


def few(data: Data, spec: TrainSpec) -> Data:
    """Return the data of two batches: the longest examples, and behind them those of any step."""
    count = len(data.learnt)
    by_length = np.argsort(-data.learnt.lengths, kind="stable")
    usual = batch_of_step(1, count=count, batch_size=spec.batch_size, seed=spec.seed)
    chosen = np.concatenate([by_length[: spec.batch_size], usual])
    nothing = data.held_out.take(np.empty(0, dtype=np.int64))
    return replace(data, learnt=data.learnt.take(chosen), held_out=nothing)


def measure(course: Course, run: RunDirectory, *, learnt: Examples) -> Measurement:
    """Take the steps of `course`, whose examples are `few` of the `learnt` ones.

    The first takes time of its own, for the optimizer's numbers; the second counts.
    """
    startup = time.time() - run.events(after=0)[0].created_at
    longest, usual = np.array_split(course.learnt.all, 2)
    _seconds(course, 1, chosen=longest)
    longest_seconds, _ = _seconds(course, 2, chosen=longest)
    usual_seconds, tokens = _seconds(course, 3, chosen=usual)
    mean = float((learnt.ends - learnt.starts).sum()) / len(learnt) * len(usual)
    return Measurement(
        peak_memory=course.learner.network.place.peak_memory() or _own_peak(),
        startup_seconds=max(startup, 0.0),
        longest_step_seconds=longest_seconds,
        step_seconds=usual_seconds * mean / tokens,
        steps=total_steps(course.spec, len(learnt)),
    )


def _own_peak() -> int:
    """Return the most bytes of the node's memory that this process had."""
    # The kernel counts in units of 1024 bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _seconds(course: Course, step: int, *, chosen: Indices) -> tuple[float, int]:
    """Take a step on the `chosen` examples; return its seconds and its tokens."""
    # As many epochs of a single batch as there are steps, whatever the run has.
    spec = course.spec.model_copy(update={"n_epochs": 3, "max_steps": None})
    before, began = course.learner.progress.trained_tokens, time.monotonic()
    learn(replace(course, spec=spec, learnt=course.learnt.take(chosen)), step)
    return time.monotonic() - began, course.learner.progress.trained_tokens - before
