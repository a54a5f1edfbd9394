"""The steps of a run: learn from a batch, evaluate, tell, save; and again from where it stopped."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import torch
from transformers.optimization import Adafactor

from tunesmith.domain.changes import slower
from tunesmith.domain.events import StepMetrics
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.spec import Optimizer, TrainSpec
from tunesmith.tracing import span
from tunesmith.training.boards import Boards
from tunesmith.training.checkpoints import Learner
from tunesmith.training.examples import (
    Examples,
    Indices,
    batch_of_step,
    seed_of_step,
    steps_per_epoch,
)
from tunesmith.training.failures import RunFailedError
from tunesmith.training.fitting import Division, Room, fitting
from tunesmith.training.group import ALONE, Group, PeerLostError, in_step
from tunesmith.training.objective import Joint, Objective, Score, Sums, evaluate, for_batch
from tunesmith.training.saving import Saver
from tunesmith.training.sharding import put_together
from tunesmith.training.stopping import StopFlag
from tunesmith.training.telemetry import EventLog, Pass


class Stopwatch:
    """Measures one lap after another, so that no time between them is lost."""

    def __init__(self) -> None:
        """Begin the first lap."""
        self._began = time.monotonic()

    def lap(self) -> float:
        """End a lap and begin the next; return the seconds that it took."""
        began, self._began = self._began, time.monotonic()
        return self._began - began


_EXPLODED = 5
"""How many times the first step's loss is too much."""

_IN_A_ROW = 5
"""Steps in a row that are to be beyond it, since a single batch may be an odd one."""


@dataclass(frozen=True)
class Course:
    """All that the loop works with."""

    spec: TrainSpec
    """What was asked for."""
    events: EventLog
    """What the run says."""
    stop: StopFlag
    """Ends the process between two writes."""
    objective: Objective | Joint
    """What is learnt."""
    boards: Boards
    """What shows the metrics elsewhere."""
    learner: Learner
    """What learns."""
    learnt: Examples
    """What is learnt from."""
    held_out: Examples
    """What the learner is evaluated on; may be empty."""
    saver: Saver
    """Saves what the learner has reached."""
    group: Group = ALONE
    """Who learns together."""
    watch: Stopwatch = field(default_factory=Stopwatch)
    """Measures the time that the run takes."""

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run, if nothing ends it before."""
        return total_steps(self.spec, len(self.learnt))

    @property
    def time_is_up(self) -> bool:
        """Whether the run has taken the time that it may.

        Where an earlier attempt was quicker, and was killed, all steps that it told are taken
        anew, and the last is one that can still be evaluated.
        """
        limit, progress, told = self.spec.max_seconds, self.learner.progress, self.events.steps
        if limit is None or progress.seconds < limit or progress.step < max(told, default=0):
            return False
        last = told.get(progress.step)
        return last is None or not len(self.held_out) or last.valid_loss is not None

    @property
    def at_end(self) -> bool:
        """Whether the last step was the run's last: of all, or of those that the time allows."""
        return self.learner.progress.step == self.total_steps or self.time_is_up


def total_steps(spec: TrainSpec, count: int) -> int:
    """Return the optimizer steps of a run on `count` examples."""
    steps = spec.n_epochs * steps_per_epoch(count, spec.batch_size)
    return steps if spec.max_steps is None else min(steps, spec.max_steps)


def learning_rate(step: int, spec: TrainSpec, *, total: int) -> float:
    """Return the learning rate of `step` (from 1) of `total`.

    It rises by equal parts to its full value at the last warm-up step, then
    falls from there so that it would be 0 one step behind the end: in a line,
    or along half a cosine wave (Loshchilov and Hutter 2016, arXiv:1608.03983).
    """
    warmup = math.ceil(spec.warmup_ratio * total)
    if step <= warmup:
        return spec.learning_rate * step / warmup
    if spec.schedule == "constant":
        return spec.learning_rate
    fallen = (step - 1 - warmup) / (total - warmup)
    share = 1 - fallen if spec.schedule == "linear" else (1 + math.cos(math.pi * fallen)) / 2
    return spec.learning_rate * share


def make_optimizer(model: torch.nn.Module, spec: TrainSpec) -> torch.optim.Optimizer:
    """Return the optimizer that `spec` names, over what can be trained.

    AdamW is Loshchilov and Hutter's (2017, arXiv:1711.05101). Adafactor (Shazeer and Stern
    2018, arXiv:1804.04235) takes the learning rate as it is: relative to the size of a weight,
    as its authors would have it, an adapter would not move from its zeros.
    """
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    if spec.optimizer is Optimizer.ADAFACTOR:
        factored: torch.optim.Optimizer = Adafactor(
            trained,
            lr=spec.learning_rate,
            weight_decay=spec.weight_decay,
            scale_parameter=False,
            relative_step=False,
        )
        return factored
    return torch.optim.AdamW(trained, lr=spec.learning_rate, weight_decay=spec.weight_decay)


def run_loop(course: Course) -> None:
    """Take all steps that are still to do, and settle each.

    The last step of an earlier attempt is settled first: it may have been
    stopped between the step and the words about it.
    """
    course.stop.save_with(lambda: course.saver.save_at_once(course.learner))
    try:
        _take_steps(course)
        course.saver.wait()
    except PeerLostError:
        # No step is taken without the others, but those that were taken are not lost.
        with course.stop.whole():
            course.saver.save_at_once(course.learner)
        raise
    finally:
        course.saver.close()
    if course.time_is_up and course.learner.progress.step < course.total_steps:
        _tell_time(course)
    if course.spec.early_stopping is not None:
        _tell_verdict(course)


def _take_steps(course: Course) -> None:
    started, first = time.monotonic(), course.learner.progress.step
    if first:
        settle(course)
    course.watch.lap()
    for step in range(first + 1, course.total_steps + 1):
        if course.time_is_up or course.learner.progress.standing.ends(course.spec):
            break
        learn(course, step)
        _estimate(course, seconds_per_step=(time.monotonic() - started) / (step - first))
        settle(course)


def learn(course: Course, step: int) -> None:
    """Take one optimizer step on the whole batch of `step`.

    The loss is one mean over the whole batch (of the learnt tokens, or of the
    pairs or queries), so that its division into micro-batches changes nothing.
    """
    began = time.monotonic()
    spec, learner = course.spec, course.learner
    chosen = batch_of_step(
        step, count=len(course.learnt), batch_size=spec.batch_size, seed=spec.seed
    )
    drawn = course.learnt.take(chosen).drawn(step, seed=spec.seed)
    parts = fitting(
        lambda batches: _accumulate(course, step, batches=batches),
        drawn,
        chosen=drawn.all,
        room=_room(course),
        of=Pass(step),
    )
    means = Score.of_shares(parts)
    _reduce_gradients(course, step, loss=means.loss, chosen=chosen)
    rate = learning_rate(step, spec, total=course.total_steps)
    # When a run's time is up is for one clock to say.
    seconds = course.group.first(course.watch.lap)
    tokens = int((drawn.ends - drawn.starts).sum())
    with course.stop.whole():
        for group in learner.optimizer.param_groups:
            group["lr"] = rate
        learner.optimizer.step()
        learner.network.place.mark_step()
        learner.optimizer.zero_grad(set_to_none=True)
        learner.progress.step = step
        learner.progress.trained_tokens += tokens
        learner.progress.seconds += seconds
        learner.progress.metrics = StepMetrics(
            step=step,
            train_loss=means.loss,
            train_mean_token_accuracy=means.accuracy,
            total_steps=course.total_steps,
            learning_rate=rate,
            tokens_per_second=tokens / (time.monotonic() - began),
            seconds_left=0.0,
        ).model_copy(update=means.further)


def settle(course: Course) -> None:
    """Evaluate, tell and save after a step what is due and was not done before."""
    spec, events, progress = course.spec, course.events, course.learner.progress
    step, last = progress.step, course.at_end
    if step not in events.steps:
        metrics = _metrics(course)
        if len(course.held_out) and (last or step % spec.evaluate_every == 0):
            with span("evaluation", step=step):
                score = _score(course, step)
            metrics = metrics.model_copy(
                update={
                    "valid_loss": score.loss,
                    "valid_mean_token_accuracy": score.accuracy,
                    "valid_mrr": score.further.get("mrr"),
                }
            )
        with course.stop.whole():
            events.step(metrics)
    course.boards.step(events.steps[step])
    _refuse_explosion(course)
    _judge(course)
    standing = progress.standing
    kept = last or standing.ends(spec) or standing.best_step == step
    if kept or step % spec.checkpoint_every == 0:
        if course.learner.network.in_step:
            # What went wrong with the checkpoint before is said before ranks wait for each other.
            course.saver.wait()
            course.group.exchange(None)
        course.saver.save(course.learner)


def result_step(course: Course) -> int:
    """Return the step whose checkpoint is the result: the best where one is sought, or the last."""
    return course.learner.progress.standing.best_step or course.learner.progress.step


def _judge(course: Course) -> None:
    """Take the evaluation of the last step into account, once."""
    progress, rule = course.learner.progress, course.spec.early_stopping
    loss = course.events.steps[progress.step].valid_loss
    if rule is None or loss is None or progress.standing.judged_step == progress.step:
        return
    progress.standing = progress.standing.after(progress.step, loss, rule=rule)


def _tell_time(course: Course) -> None:
    progress, limit = course.learner.progress, course.spec.max_seconds
    text = (
        f"The time is up: {limit} seconds of training were over with step {progress.step} of "
        f"{course.total_steps}, which is the last"
    )
    with course.stop.whole():
        course.events.once(text, data={"max_seconds": limit})


def _tell_verdict(course: Course) -> None:
    progress = course.learner.progress
    text = progress.standing.verdict(progress.step, total=course.total_steps, spec=course.spec)
    with course.stop.whole():
        course.events.once(text, data={"result_step": result_step(course)})


def _room(course: Course) -> Room:
    return Room(course.spec, course.learner.network, course.events, course.stop, course.group)


def _score(course: Course, step: int) -> Score:
    """Evaluate the held-out examples after `step`."""
    objective, network = course.objective, course.learner.network
    parts = fitting(
        lambda batches: evaluate(objective, network, batches=batches),
        course.held_out,
        chosen=course.held_out.all,
        room=_room(course),
        of=Pass(step, "evaluation"),
        file=course.spec.held_out_file,
    )
    return Sums.of(parts).mean


def _accumulate(course: Course, step: int, *, batches: Division) -> Score:
    """Add up the gradient of this rank's share of the batch; return what it adds to the means."""
    learner, spec, rank = course.learner, course.spec, course.group.rank
    loss, correct = 0.0, 0
    further: dict[str, float] = {}
    place = learner.network.place
    place.seed(seed_of_step(step, seed=spec.seed))
    objective = for_batch(course.objective, learner.network, batches=batches.of_all())
    count = sum(objective.count(batch) for batch in batches.of_all())
    if rank:
        # What is looked at by all ranks is the same in all; what dropout leaves out of shares, not.
        place.seed(seed_of_step(step, seed=spec.seed, rank=rank))
    for batch in batches:
        measured = objective.measure(learner.network, batch)
        loss += measured.loss.item() / count
        correct += measured.correct
        for name, total in measured.further.items():
            further[name] = further.get(name, 0.0) + total / count
        torch.autograd.backward(measured.loss / count)
        place.mark_step()
    return Score(loss, correct / count, further)


def _reduce_gradients(course: Course, step: int, *, loss: float, chosen: Indices) -> None:
    """Add up the gradient over all ranks, and clip it."""
    weights = [weight for weight in course.learner.model.parameters() if weight.requires_grad]
    if course.learner.network.in_step:
        with in_step():
            course.group.leave_out_unused(weights)
            norm = torch.nn.utils.clip_grad_norm_(weights, course.spec.max_grad_norm)
            norm = put_together(norm)
    else:
        course.group.add_gradients(weights)
        norm = torch.nn.utils.clip_grad_norm_(weights, course.spec.max_grad_norm)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise _not_finite(step, course.learnt.places(chosen), spec=course.spec)


def _not_finite(step: int, places: str, *, spec: TrainSpec) -> RunFailedError:
    # The first step's loss was taken before anything was learnt, at whatever rate.
    change = slower(spec.learning_rate) if step > 1 else None
    rate = f"Set a smaller learning rate than {spec.learning_rate:g}, or mend" if change else "Mend"
    return RunFailedError(
        FailureCode.LOSS_NOT_FINITE,
        f"The loss of step {step} is not a finite number; it was taken on the {places} of the "
        f"training file. {rate} these.",
        change=change,
    )


def _refuse_explosion(course: Course) -> None:
    """Raise `RunFailedError` where the losses of the last steps are far above the first step's.

    All losses were told, those of earlier attempts too, so that each attempt says the same.
    """
    step, told = course.learner.progress.step, course.events.steps
    first, bound = told[1].train_loss, _EXPLODED * max(told[1].train_loss, 1.0)
    last = [told[at].train_loss for at in range(max(step - _IN_A_ROW, 0) + 1, step + 1)]
    if len(last) < _IN_A_ROW or min(last) <= bound:
        return
    raise RunFailedError(
        FailureCode.LOSS_EXPLODED,
        f"The loss has grown from {first:.4g} in step 1 to {last[-1]:.4g} in step {step}, and was "
        f"above {bound:.4g} in the last {_IN_A_ROW} steps. Set a smaller learning rate than "
        f"{course.spec.learning_rate:g}, such as {course.spec.learning_rate / 10:g}.",
        param="learning_rate",
        change=slower(course.spec.learning_rate),
    )


def _estimate(course: Course, *, seconds_per_step: float) -> None:
    progress, limit = course.learner.progress, course.spec.max_seconds
    left = (course.total_steps - progress.step) * seconds_per_step
    if limit is not None:
        left = max(0.0, min(left, limit - progress.seconds))
    course.learner.progress.metrics = _metrics(course).model_copy(update={"seconds_left": left})


def _metrics(course: Course) -> StepMetrics:
    metrics = course.learner.progress.metrics
    assert metrics is not None  # noqa: S101  a step was taken
    return metrics
