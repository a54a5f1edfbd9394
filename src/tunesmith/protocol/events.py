"""OpenAI's events and checkpoints of a job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

from tunesmith.domain.events import Checkpoint, Event, StepMetrics
from tunesmith.domain.thinning import thinned
from tunesmith.domain.values import Page
from tunesmith.protocol.wire import Wire


class EventObject(Wire):
    """Something that happened to a job."""

    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    """Tells the kinds of objects apart."""
    id: str
    """`ftevent-…`."""
    created_at: int
    """Unix seconds."""
    level: Literal["info", "warn", "error"]
    """How serious it is."""
    message: str
    """One sentence for a person."""
    type: Literal["message", "metrics"]
    """Whether `data` holds the metrics of a step."""
    data: dict[str, Any] | None
    """The numbers behind the sentence; for metrics, the fields of `StepMetrics` that are known."""

    @classmethod
    def to_wire(cls, event: Event) -> Self:
        """Return `event` as clients see it."""
        return cls(
            id=event.id,
            created_at=event.created_at,
            level=event.level.value,
            message=event.message,
            type=event.type.value,
            data=event.data,
        )


class EventList(Wire):
    """A page of a job's events."""

    object: Literal["list"] = "list"
    """Tells the kinds of objects apart."""
    data: list[EventObject]
    """The events, newest first."""
    has_more: bool
    """Whether older ones follow."""

    @classmethod
    def to_wire(cls, page: Page[Event]) -> Self:
        """Return `page` as clients see it."""
        return cls(data=[EventObject.to_wire(e) for e in page.items], has_more=page.has_more)


class MetricsList(Wire):
    """The curves of a job, thinned out to what can be shown."""

    object: Literal["list"] = "list"
    """Tells the kinds of objects apart."""
    data: list[dict[str, Any]]
    """The `data` of metrics events, in the order of the steps."""
    steps: int
    """Steps that were told of, of which `data` shows some or all."""

    @classmethod
    def to_wire(cls, metrics: Sequence[dict[str, Any]], *, most: int) -> Self:
        """Return at most `most` of `metrics`, the peaks of the training loss among them.

        A step that was evaluated stays, as long as such steps are no more than half of `most`.
        """
        evaluated = [each for each in metrics if each.get("valid_loss") is not None]
        evaluated = thinned(evaluated, most=most // 2, heights=_heights(evaluated, "valid_loss"))
        others = thinned(
            metrics, most=most - len(evaluated), heights=_heights(metrics, "train_loss")
        )
        shown = {each["step"]: each for each in (*others, *evaluated)}
        return cls(data=[shown[step] for step in sorted(shown)], steps=len(metrics))


def _heights(metrics: Sequence[dict[str, Any]], name: str) -> list[float]:
    return [each[name] for each in metrics]


class CheckpointMetrics(Wire):
    """The numbers at a checkpoint's step; losses in nats, accuracies as shares of 1."""

    step: float
    """Optimizer step, from 1."""
    train_loss: float
    """Loss of the step's batch."""
    train_mean_token_accuracy: float
    """Share of its learnt tokens that were the model's first choice."""
    valid_loss: float | None
    """Loss on the held-out examples, where there are any."""
    valid_mean_token_accuracy: float | None
    """Accuracy on the held-out examples."""
    full_valid_loss: float | None
    """The same as `valid_loss`: an evaluation always covers all held-out examples."""
    full_valid_mean_token_accuracy: float | None
    """The same as `valid_mean_token_accuracy`."""

    @classmethod
    def to_wire(cls, metrics: StepMetrics) -> Self:
        """Return `metrics` as clients see them."""
        return cls(
            step=metrics.step,
            train_loss=metrics.train_loss,
            train_mean_token_accuracy=metrics.train_mean_token_accuracy,
            valid_loss=metrics.valid_loss,
            valid_mean_token_accuracy=metrics.valid_mean_token_accuracy,
            full_valid_loss=metrics.valid_loss,
            full_valid_mean_token_accuracy=metrics.valid_mean_token_accuracy,
        )


class CheckpointObject(Wire):
    """A saved state of a run that can be used as a model."""

    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    """Tells the kinds of objects apart."""
    id: str
    """`ftckpt_…`."""
    created_at: int
    """Unix seconds."""
    fine_tuned_model_checkpoint: str
    """`ft:<base>:<organization>:<suffix>:<id>:ckpt-step-<N>`."""
    step_number: int
    """Optimizer step at which it was saved."""
    metrics: CheckpointMetrics
    """The numbers at that step."""
    fine_tuning_job_id: str
    """The job that it belongs to."""

    @classmethod
    def to_wire(cls, checkpoint: Checkpoint) -> Self:
        """Return `checkpoint` as clients see it."""
        return cls(
            id=checkpoint.id,
            created_at=checkpoint.created_at,
            fine_tuned_model_checkpoint=checkpoint.model,
            step_number=checkpoint.step,
            metrics=CheckpointMetrics.to_wire(checkpoint.metrics),
            fine_tuning_job_id=checkpoint.job_id,
        )


class CheckpointList(Wire):
    """A page of a job's checkpoints."""

    object: Literal["list"] = "list"
    """Tells the kinds of objects apart."""
    data: list[CheckpointObject]
    """The checkpoints, newest first."""
    first_id: str | None
    """Id of the first, null in an empty page."""
    last_id: str | None
    """Id of the last, the next page's `after`."""
    has_more: bool
    """Whether older ones follow."""

    @classmethod
    def to_wire(cls, page: Page[Checkpoint]) -> Self:
        """Return `page` as clients see it."""
        data = [CheckpointObject.to_wire(checkpoint) for checkpoint in page.items]
        return cls(
            data=data,
            first_id=data[0].id if data else None,
            last_id=data[-1].id if data else None,
            has_more=page.has_more,
        )
