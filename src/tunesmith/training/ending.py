"""What came of a run's steps, and the verdict on it in full."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.domain.events import EventLevel
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.jobs import JobError
from tunesmith.domain.verdicts import Verdict, VerdictOutcome
from tunesmith.training.answers import Respondent, with_answers
from tunesmith.training.examples import Examples
from tunesmith.training.loop import Course, result_step
from tunesmith.training.receipt import Receipt
from tunesmith.training.telemetry import EventLog


@dataclass(frozen=True)
class Ending:
    """What came of all steps. It holds on to no model, so that others find memory."""

    receipt: Receipt
    """What was learnt from, and how far."""
    step: int
    """The step whose checkpoint is the result."""
    trained_tokens: int
    """Tokens that went through training, padding not counted."""
    measured: bool
    """Whether the run only measured, and has no result."""
    held_out: Examples
    """What was held out."""
    verdict: Verdict | None
    """The verdict, without answers; `None` where there is none."""
    by: Respondent
    """Who answers."""

    def in_full(self, events: EventLog) -> Verdict | None:
        """Return the verdict with the answers that were asked for, kept and told.

        Where the models cannot be brought to answer, an event says why, and the rest stands.
        """
        if self.verdict is None:
            return None
        verdict = self._answered(self.verdict, events)
        events.check_claim()
        self.by.run.write_verdict(verdict)
        worse = verdict.outcome is VerdictOutcome.WORSE
        events.once(
            verdict.in_words(),
            data={"verdict": verdict.outcome.value, "loss": verdict.loss.model_dump()},
            level=EventLevel.WARN if worse else EventLevel.INFO,
        )
        return verdict

    def _answered(self, verdict: Verdict, events: EventLog) -> Verdict:
        if not self.by.spec.verdict.answers:
            return verdict
        try:
            return with_answers(verdict, self.held_out, by=self.by, announce=events.check_claim)
        # What a model, its template and its code raise is anything, and the result is made.
        except Exception as error:  # noqa: BLE001
            events.message(
                f"The verdict has no answers, since the models could not be asked: {error}",
                level=EventLevel.WARN,
            )
            return verdict


def completed(receipt: Receipt, course: Course) -> Receipt:
    """Return `receipt` with what came of all steps of `course`."""
    progress = course.learner.progress
    last = course.events.steps[progress.step]
    return receipt.model_copy(
        update={
            "trained_tokens": progress.trained_tokens,
            "steps": progress.step,
            "result_step": result_step(course),
            "final_train_loss": last.train_loss,
            "final_valid_loss": last.valid_loss,
        }
    )


def not_passed(verdict: Verdict) -> JobError:
    """Return why a job fails whose gate was not passed."""
    reason = verdict.gate.reason if verdict.gate else ""
    return JobError(
        code=FailureCode.GATE_NOT_PASSED,
        message=f"The gate was not passed, so that no model was made. {reason}. The checkpoints "
        "are kept, and can be used and tuned on.",
        param="gate",
    )
