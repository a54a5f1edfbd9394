"""Compares what a run has tuned with what it began with, example by example on held-out lines.

The baseline is measured before the first step and kept in the run directory; the result, when the
last step is done. Each is one more pass over the held-out examples, of which nothing is learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from safetensors import numpy as safetensors

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.ids import checkpoint_model_name
from tunesmith.domain.spec import Method, TrainSpec
from tunesmith.domain.verdicts import (
    MOST_WORSE_LINES,
    GeneralText,
    HeldOut,
    Measure,
    ResultCheckpoint,
    Verdict,
    WorseLine,
    gate_result,
    outcome_of,
)
from tunesmith.training import checkpoints
from tunesmith.training.bootstrap import Numbers, drawn_sums, interval
from tunesmith.training.by_example import ByExample, measure_each
from tunesmith.training.examples import Examples
from tunesmith.training.fitting import Room
from tunesmith.training.general import GENERAL
from tunesmith.training.loop import Course, result_step
from tunesmith.training.supervised import Supervised

_ROUNDING = 1e-4
"""Nats by which a line's loss must rise for the line to be worse, which is more than rounding."""

_PAIRED = {Method.DPO, Method.EMBEDDING, Method.RERANK}
"""Methods whose losses are not those of tokens."""


@dataclass(frozen=True)
class Compared:
    """Held-out examples and general texts, under one model."""

    held_out: ByExample
    """Each held-out example."""
    general: ByExample | None
    """Each general text; `None` where there are none."""

    def to_bytes(self) -> bytes:
        """Return all numbers, safetensors."""
        parts = {"held_out": self.held_out, "general": self.general}
        return safetensors.save(
            {
                f"{part}/{name}": values
                for part, found in parts.items()
                if found is not None
                for name, values in found.columns.items()
            }
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> Compared:
        """Return what `to_bytes` was made of."""
        found = safetensors.load(content)
        general = _part(found, "general")
        held_out = ByExample.of(_part(found, "held_out"))
        return cls(held_out, ByExample.of(general) if general else None)


def _part(found: Mapping[str, Numbers], part: str) -> dict[str, Numbers]:
    begin = f"{part}/"
    return {name.removeprefix(begin): found[name] for name in found if name.startswith(begin)}


def keep_baseline(course: Course, run: RunDirectory, *, general: Examples | None) -> None:
    """Measure the network, which has taken no step yet, once for all attempts.

    An attempt that goes on from a checkpoint has it; all ranks call this.
    """
    known = course.group.first(lambda: run.baseline() is not None)
    if known or course.learner.progress.step or not len(course.held_out):
        return
    found = _measured(course, general, step=0)
    if course.group.leads:
        course.events.check_claim()
        run.write_baseline(found.to_bytes())


def judge(
    course: Course, run: RunDirectory, *, artifacts: Artifacts, general: Examples | None
) -> Verdict | None:
    """Return the verdict on the result, whose weights the network then has; all ranks get it.

    It is `None` where no example is held out, or the first attempt was one of an older version,
    which measured no baseline. Answers are none of its business.
    """
    # What a stop would save is saved, and is held on to no longer.
    course.stop.save_with(lambda: None)
    kept = course.group.first(run.baseline) if len(course.held_out) else None
    if kept is None:
        return None
    step, model = result_step(course), course.learner.model
    if step != course.learner.progress.step:
        checkpoints.restore_weights(run, artifacts, model=model, step=step)
    tuned = _measured(course, general, step=step)

    def verdict() -> Verdict:
        both = Compared.from_bytes(kept), tuned
        return _verdict(course, run, both=both, general=general)

    return course.group.first(verdict)


def with_measures(verdict: Verdict, measures: Sequence[Measure]) -> Verdict:
    """Return `verdict` with further `measures`."""
    return verdict.model_copy(update={"measures": (*verdict.measures, *measures)})


def measure_of(
    name: str,
    sides: tuple[Numbers, Numbers],
    *,
    counts: Numbers,
    of: Callable[[Numbers], Numbers] = np.asarray,
    lower: bool = False,
) -> Measure:
    """Return the measure `name` of lines: `of` the mean over all of them, baseline and tuned.

    `sides` are the sums of each line under both, of `counts` numbers; with `lower`, less is better.
    """
    columns = np.stack([*sides, counts], axis=1)
    draws = drawn_sums(columns)

    def side(at: int) -> Callable[[Numbers], Numbers]:
        return lambda sums: of(sums[..., at] / np.maximum(sums[..., 2], 1e-9))

    def difference(sums: Numbers) -> Numbers:
        return side(1)(sums) - side(0)(sums)

    baseline, tuned, apart = (
        interval(each, columns, draws=draws) for each in (side(0), side(1), difference)
    )
    return Measure(
        name=name,
        better="lower" if lower else "higher",
        baseline=baseline,
        tuned=tuned,
        difference=apart,
    )


def _measured(course: Course, general: Examples | None, *, step: int) -> Compared:
    room = Room(course.spec, course.learner.network, course.events, course.stop, course.group)
    held_out = measure_each(
        course.objective, course.held_out, room=room, step=step, file=course.spec.held_out_file
    )
    texts = None
    if general is not None and len(general):
        texts = measure_each(Supervised(), general, room=room, step=step, file="training")
    return Compared(held_out, texts)


def _verdict(
    course: Course,
    run: RunDirectory,
    *,
    both: tuple[Compared, Compared],
    general: Examples | None,
) -> Verdict:
    spec, rows = course.spec, course.held_out.rows
    baseline, tuned = both
    before, now = (each.held_out.by_row(rows) for each in (baseline, tuned))
    measures = _measures(before, now, spec=spec)
    loss, lines = measures[0], len(now.losses)
    outcome = outcome_of(loss.difference, lines=lines)
    worse, count = _worse_lines(before, now, held_out=course.held_out)
    return Verdict(
        model=spec.tuned_model,
        outcome=outcome,
        held_out=HeldOut(lines=lines, tokens=_tokens(course.held_out, now, spec=spec)),
        measures=measures,
        result_step=result_step(course),
        best_checkpoint=_best(course, run),
        worse_lines=worse,
        worse_count=count,
        general=_general(baseline.general, tuned.general, examples=general),
        gate=gate_result(spec.gate, outcome, loss=loss, lines=lines) if spec.gate else None,
    )


def _measures(before: ByExample, now: ByExample, *, spec: TrainSpec) -> tuple[Measure, ...]:
    losses, right, counts = (before.losses, now.losses), (before.right, now.right), now.counts
    loss = measure_of("loss", losses, counts=counts, lower=True)
    if spec.method not in _PAIRED:
        perplexity = measure_of("perplexity", losses, counts=counts, of=_exponential, lower=True)
        return (loss, perplexity, measure_of("token_accuracy", right, counts=counts))
    further = (
        measure_of(name, (before.further[name], now.further[name]), counts=counts)
        for name in now.further
    )
    return (loss, measure_of("accuracy", right, counts=counts), *further)


def _exponential(losses: Numbers) -> Numbers:
    # Beyond, the perplexity would be no finite number.
    perplexities: Numbers = np.exp(np.minimum(losses, 700.0))
    return perplexities


def _tokens(held_out: Examples, now: ByExample, *, spec: TrainSpec) -> int:
    if spec.method in _PAIRED:
        return int((held_out.ends - held_out.starts).sum())
    return int(now.counts.sum())


def _worse_lines(
    before: ByExample, now: ByExample, *, held_out: Examples
) -> tuple[tuple[WorseLine, ...], int]:
    """Return the lines that became worse by most, those first, and how many did at all."""
    rose = now.means - before.means
    order = np.argsort(-rose, kind="stable")
    worse = order[rose[order] > _ROUNDING]
    _, firsts = np.unique(held_out.rows, return_index=True)
    lines = tuple(
        WorseLine(
            line=int(held_out.lines[firsts[row]]),
            element=int(held_out.elements[firsts[row]]),
            baseline_loss=float(before.means[row]),
            tuned_loss=float(now.means[row]),
        )
        for row in worse[:MOST_WORSE_LINES]
    )
    return lines, len(worse)


def _best(course: Course, run: RunDirectory) -> ResultCheckpoint | None:
    told = course.events.steps
    losses = {
        step: loss
        for step in run.checkpoint_steps()
        if step in told and (loss := told[step].valid_loss) is not None
    }
    if not losses:
        return None
    step = min(losses, key=lambda at: losses[at])
    name = checkpoint_model_name(course.spec.tuned_model, step)
    return ResultCheckpoint(step=step, name=name, loss=losses[step])


def _general(
    before: ByExample | None, now: ByExample | None, *, examples: Examples | None
) -> tuple[GeneralText, ...]:
    if before is None or now is None or examples is None:
        return ()
    return tuple(
        GeneralText(
            text=" ".join(GENERAL[line - 1]), baseline_loss=float(first), tuned_loss=float(last)
        )
        for line, first, last in zip(examples.lines, before.means, now.means, strict=True)
    )
